// The front: rows that no other beats, as a staircase whose corners are numbered or named.
const DASHES = ["solid", "dash", "dot", "dashdot"];
const [LETTER, LINE] = [6, 13]; // pixels that a letter of a label is wide, and a line high, about
const CLOSE = 24; // pixels across: points that are nearer share a label

/** Rows that no other beats in both mean and x, best x first. Controls do not compete. */
function front(list, key) {
  const sign = AXES[key].more ? -1 : 1;
  const competing = list.filter((row) => row.block !== "control" && !none(row[key]) && !none(row.score));
  let best = -Infinity;
  return competing.sort((a, b) => sign * (a[key] - b[key]) || b.score - a.score)
    .filter((row) => row.score > best && ((best = row.score), true));
}

/** For Plotly, which reads some HTML in texts. */
const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

/** The numbers of the rows in the front, close ones together; a group's last is its highest and leftmost. */
function groups(list, at) {
  const found = [];
  list.forEach((row, i) => {
    if (i && at(list[i - 1])[0] - at(row)[0] < CLOSE) found.at(-1).push(i);
    else found.push([i]);
  });
  return found;
}

/** The label of a group of rows: its lines, which side of its corner it stands on, and its box in pixels. */
function label(lines, [x, y]) {
  const long = LETTER * Math.max(...lines.map((line) => line.length));
  const side = x + long > plot.clientWidth - MARGIN ? "left" : "right";
  const left = side === "left" ? x - long : x;
  return { lines, side, box: [left, y - LINE * lines.length, left + long, y] };
}

/** Whether all labels are within the plot and none lies on another. */
function fit(labels) {
  const apart = ([a, b, c, d], [e, f, g, h]) => c <= e || g <= a || d <= f || h <= b;
  return labels.every(({ box }, i) => box[0] >= 0 && labels.slice(0, i).every((other) => apart(box, other.box)));
}

/** Numbers and names of each group, or numbers alone where names would not fit. */
function labels(list, grouped, at) {
  const corner = (group) => at(list[group.at(-1)]);
  const named = grouped.map((group) => label(group.map((i) => `${i + 1} ${list[i].variant} ${short(list[i].target_density)}`), corner(group)));
  return fit(named) ? named : grouped.map((group) => label([group.map((i) => i + 1).join(",")], corner(group)));
}

/** A front as a staircase; its numbers are those of the list below the plot. Several fronts have their place's name. */
function frontTrace(fronts, number, key, at) {
  const list = fronts[number];
  const alone = fronts.length === 1;
  const grouped = groups(list, at);
  const told = alone ? labels(list, grouped, at) : grouped.map((group, g) => label(
    [group.map((i) => i + 1).join(",") + (g ? "" : ` ${shortName(list[0].at, fronts.map((one) => one[0].at))}`)], at(list[group.at(-1)])));
  const [text, side] = [list.map(() => ""), list.map(() => "right")];
  grouped.forEach((group, g) => {
    const { lines, side: where } = told[g];
    text[group.at(-1)] = lines.map((line) => (where === "left" ? `${escaped(line)}\u00a0` : `\u00a0${escaped(line)}`)).join("<br>");
    side[group.at(-1)] = where;
  });
  return {
    name: "front", mode: "lines+text", x: list.map((row) => row[key]), y: list.map((row) => height(row, row.value)), text,
    textposition: side.map((one) => `top ${one}`), textfont: { size: 11, color: "#000" }, cliponaxis: false, hoverinfo: "skip",
    showlegend: number === 0, line: { shape: "hv", width: 1.5, color: "#000", dash: DASHES[number % DASHES.length] },
  };
}
