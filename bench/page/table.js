// The table: rows are sorted within their place (suite, data set, net, budget) and never across.
const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};
const table = document.getElementById("rows");
const TEXT = new Set(["text", "variant", "status", "verdict"]);

for (const row of rows) row.line = line(row);
const bodies = places.map((at) => {
  const kind = data.measures[at.measure];
  const better = at.lower ? ", less is better" : "";
  const about = `${placeName(at)}: ${kind.short}, %${better}; ${at.samples} ${kind.samples}; ` +
    (at.setting ? `times: ${at.setting}` : "not timed");
  const head = make("tr", { className: "place" },
    make("th", { colSpan: data.columns.length, scope: "rowgroup" }, make("span", {}, about)));
  return table.appendChild(make("tbody", {}, head));
});

function line(row) {
  const lost = row.n === 0 ? " lost" : "";
  const made = make("tr", { className: row.block + lost });
  for (const column of data.columns) made.append(cell(row, column));
  return made;
}

function cell(row, { key, form }) {
  const text = FORMS[form](row, key);
  if (form === "variant") {
    const button = make("button", { type: "button", title: "the runs behind this row" }, text);
    button.addEventListener("click", () => select(row, button));
    return make("th", { scope: "row" }, button);
  }
  const made = make("td", { className: TEXT.has(form) ? "text" : "" });
  made.append(form === "score" && row.best ? make("strong", {}, text) : text);
  if (form === "verdict" && !none(row[key])) made.classList.add(row[key]);
  if (form === "status" && row.reason) made.append(make("small", { title: row.reason }, row.reason));
  if (text === DASH && row.latency_reason && /speedup|latency|efficiency/.test(key)) made.title = row.latency_reason;
  return made;
}

/** By what a column sorts: errors and differences so that more is better. */
function sortValue(row, key) {
  const sign = row.at.lower ? -1 : 1;
  if (key === "value") return row.score;
  if (key === "delta_dense") return none(row[key]) ? null : sign * row[key];
  if (key.endsWith("_verdict")) {
    const difference = row[`${key.slice(0, -8)}_difference`];
    return none(difference) ? null : sign * difference;
  }
  return row[key];
}

/** Ascending; what is missing comes last either way. */
function sorted(list) {
  const down = state.sort.startsWith("-");
  const key = state.sort.replace(/^-/, "");
  if (!key) return list;
  return [...list].sort((a, b) => {
    const [x, y] = [sortValue(a, key), sortValue(b, key)];
    if (none(x) || none(y)) return none(x) - none(y);
    const order = typeof x === "string" ? x.localeCompare(y) : x - y;
    return down ? -order : order;
  });
}

function showTable(shown) {
  bodies.forEach((body, number) => {
    const own = shown.filter((row) => row.place === number);
    body.hidden = own.length === 0;
    body.replaceChildren(body.firstChild, ...sorted(own).map((row) => row.line));
  });
  for (const head of table.querySelectorAll("thead th")) {
    const order = state.sort === head.dataset.key ? "ascending" : state.sort === `-${head.dataset.key}` ? "descending" : "none";
    head.setAttribute("aria-sort", order);
  }
  for (const row of rows) row.line.ariaCurrent = row.key === state.row ? "true" : null;
  document.getElementById("count").textContent =
    `${shown.length} of ${rows.length} rows${state.controls ? "" : "; controls are hidden"}`;
}

/** Numbers first show their largest, texts their first; a third click ends the sorting. */
function nextSort(key) {
  const text = rows.some((row) => typeof sortValue(row, key) === "string");
  const [first, second] = text ? [key, `-${key}`] : [`-${key}`, key];
  return state.sort === first ? second : state.sort === second ? "" : first;
}

/** The rows shown, in the order shown, every number of them, as a file. */
function csv(shown) {
  const about = ["suite", "dataset", "arch", "tier", "measure", "setting", "protocol"];
  const names = Object.keys(data.rows).filter((name) => name !== "place" && name !== "seeds");
  const lines = shown.map((row) => [
    ...about.map((name) => row.at[name]), ...names.map((name) => row[name]),
    row.seeds.map(([run]) => runs[run].run).join(" "),
  ]);
  const quoted = (value) => (/[",\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  return [[...about, ...names, "runs"], ...lines]
    .map((values) => values.map((value) => quoted(String(value ?? ""))).join(",")).join("\n") + "\n";
}

function download(shown) {
  const order = places.flatMap((_, number) => sorted(shown.filter((row) => row.place === number)));
  const address = URL.createObjectURL(new Blob([csv(order)], { type: "text/csv" }));
  make("a", { href: address, download: "rows.csv" }).click();
  URL.revokeObjectURL(address);
}
