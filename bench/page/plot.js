// The plot. Upwards the error shrinks logarithmically, so that 91 and 92 per cent are told apart.
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "triangle-down", "pentagon", "x", "cross", "hexagon", "star-diamond", "bowtie", "hourglass"];
const PATTERNS = frequent(rows.filter((row) => row.block === "method").map((row) => row.pattern ?? "no pattern"));
const coarse = matchMedia("(pointer: coarse)").matches;

/** The distinct texts, the most frequent first, so that it has the first colour. */
function frequent(texts) {
  const counts = new Map();
  for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
  return [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || a.localeCompare(b));
}

/** The library comes packed; unpacking it does not hold up the table. */
async function loadPlotly() {
  const bytes = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  document.head.append(make("script", { textContent: await new Response(stream).text() }));
}

function look(row) {
  if (row.block === "dense") return { color: "#000", symbol: "star", size: 13 };
  if (row.block === "control") return { color: "#8a8a8a", symbol: "circle-open", size: 6 };
  const number = PATTERNS.indexOf(row.pattern ?? "no pattern");
  return { color: data.colours[number % data.colours.length], symbol: SYMBOLS[number % SYMBOLS.length], size: 8 };
}

function hover(row, key) {
  const x = key === "measured_speedup" ? speedup(row) : digits(row[key]);
  const lines = [
    `<b>${escaped(row.variant)}</b> at density ${short(row.target_density)}`,
    `${row.measure.short} ${score(row)} %`,
    `${AXES[key].title}: ${x}`,
    ...(row.latency_path ? [escaped(row.latency_path)] : []),
    ...row.seeds.map(([run]) => escaped(runs[run].run)),
  ];
  return lines.join("<br>");
}

/** Bars of the intervals; beyond an axis' end there is nothing to draw. */
function bars(list, key) {
  const y = list.map((row) => height(row, row.value));
  const half = list.map((row) => row.value_half ?? 0);
  const made = { error_y: { type: "data", array: half, arrayminus: half.map((h, i) => Math.min(h, y[i] - floor(list[i]))) } };
  const ends = AXES[key].interval;
  if (ends) {
    const [low, high] = ends.map((name) => list.map((row) => row[name] ?? row[key]));
    made.error_x = { type: "data", array: high.map((h, i) => h - list[i][key]), arrayminus: low.map((l, i) => list[i][key] - l) };
  }
  for (const bar of Object.values(made)) Object.assign(bar, { thickness: 1, width: 0, color: "rgba(90,90,90,.28)" });
  return made;
}

function markTrace(name, list, key) {
  const { color, symbol, size } = look(list[0]);
  return {
    name, mode: "markers", x: list.map((row) => row[key]), y: list.map((row) => height(row, row.value)),
    customdata: list.map((row) => rows.indexOf(row)), hovertext: list.map((row) => hover(row, key)), hoverinfo: "text",
    marker: { color, symbol, size, opacity: 0.8, line: { width: 0.5, color: symbol.endsWith("open") ? color : "#fff" } },
    ...bars(list, key),
  };
}

/** Every seed where its row's mean stands across. */
function seedTrace(list, key) {
  const dots = list.filter((row) => row.n > 1).flatMap((row) =>
    row.seeds.filter(([, value]) => !none(value)).map(([, value]) => [row[key], height(row, value)]));
  return { name: "single seeds", mode: "markers", x: dots.map(([x]) => x), y: dots.map(([, y]) => y), hoverinfo: "skip",
    marker: { size: 3.5, color: "#777", opacity: 0.4 } };
}

/** The traces of the rows shown, in the order of drawing; the last is the emphasised variant. */
function traces(list, fronts, key, at) {
  const groups = Map.groupBy(list, (row) => (row.block === "method" ? row.pattern ?? "no pattern" : row.block === "dense" ? "dense net" : "controls"));
  const order = ["controls", ...PATTERNS, "dense net"].filter((name) => groups.has(name));
  return [
    seedTrace(list, key),
    ...order.map((name) => markTrace(name, groups.get(name), key)),
    ...fronts.map((_, number) => frontTrace(fronts, number, key, at)),
    { mode: "lines+markers", x: [], y: [], hoverinfo: "skip", showlegend: false, line: { color: "#d55e00", width: 2 },
      marker: { size: 13, color: "rgba(0,0,0,0)", line: { width: 2, color: "#d55e00" } } },
  ];
}

function layout(measure, key, ends, [bottom, top]) {
  const narrow = plot.clientWidth < 600;
  const xs = logTicks(...ends.map(Math.exp).sort((a, b) => a - b), narrow ? 6 : 10);
  const ys = errorTicks(top, bottom);
  const shared = { type: "log", gridcolor: "#e8e8e8", zeroline: false, linecolor: "#1a1a1a", ticks: "outside" };
  return {
    font: { family: "system-ui, sans-serif", size: 12, color: "#1a1a1a" },
    margin: { l: narrow ? 44 : 56, r: narrow ? 8 : 16, t: 24, b: 48 },
    hovermode: "closest", dragmode: coarse ? false : "zoom",
    legend: { orientation: "h", x: 0, y: 1.03, yanchor: "bottom", font: { size: narrow ? 10 : 12 } },
    hoverlabel: { bgcolor: "#fff", bordercolor: "#555", font: { size: 11, color: "#1a1a1a" }, align: "left" },
    xaxis: { ...shared, title: { text: AXES[key].title, standoff: 6 }, range: ends.map((end) => end / Math.LN10), tickvals: xs, ticktext: xs.map(short) },
    yaxis: { ...shared, title: { text: measure.axis, standoff: 6 }, range: [bottom, top].map(Math.log10), tickvals: ys, ticktext: ys.map((e) => short(100 * (measure.lower ? e : 1 - e))) },
  };
}

/** Of the rows shown those that the plot can show, of one measure, and the front of each place. */
function drawable(shown, key) {
  const measured = shown.filter((row) => !none(row.value));
  const kinds = [...new Set(measured.map((row) => row.at.measure))];
  const list = measured.filter((row) => row.at.measure === kinds[0] && !none(row[key]));
  const here = [...new Set(list.map((row) => row.place))];
  const fronts = here.map((place) => front(list.filter((row) => row.place === place), key));
  return { kinds, list, fronts: fronts.filter((one) => one.length) };
}

/** Draw the rows; says what is left out, and lists each front. */
function showPlot(shown) {
  const key = axisOf(shown);
  const { kinds, list, fronts } = drawable(shown, key);
  const error = (row) => height(row, row.value);
  const edges = [lowerEdge(list.map(error), fronts.flat().map(error)), Math.min(...list.map(error)) / 1.1];
  describe(shown, list, kinds, key, list.filter((row) => error(row) > edges[0]).length);
  listFronts(fronts, key);
  if (!list.length) {
    Plotly.purge(plot);
    plot.textContent = "No row shown has this number.";
    return;
  }
  if (!plot.data) plot.textContent = "";
  const ends = across(list, key);
  Plotly.react(plot, traces(list, fronts, key, placed(key, ends, edges)), layout(list[0].measure, key, ends, edges), {
    responsive: true, displaylogo: false, displayModeBar: coarse ? false : "hover", modeBarButtons: [["toImage", "resetScale2d"]] });
  listen();
  emphasise(null);
}

/** (A plot that was emptied and drawn anew has lost its listeners, any other would have them twice.) */
function listen() {
  const under = ({ points: [point] }) => rows[point.customdata];
  const heard = {
    plotly_hover: (event) => emphasise(under(event)),
    plotly_unhover: () => emphasise(null),
    plotly_click: (event) => under(event) && select(under(event), null),
  };
  for (const [name, react] of Object.entries(heard)) {
    plot.removeAllListeners(name);
    plot.on(name, react);
  }
}

/** Join and ring all densities of the variant under the pointer, else of the selected row. */
function emphasise(row) {
  const chosen = row ?? rows.find((one) => one.key === state.row);
  const key = axisOf(visible());
  const own = !chosen ? [] : visible().filter((one) => one.place === chosen.place && one.variant === chosen.variant && !none(one.value) && !none(one[key]));
  own.sort((a, b) => b.target_density - a.target_density);
  Plotly.restyle(plot, { x: [own.map((one) => one[key])], y: [own.map((one) => height(one, one.value))] }, [plot.data.length - 1]);
}
