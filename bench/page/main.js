// Wiring: what people do changes the state, the state is written to the address, all is shown anew.
const form = document.getElementById("filters");
const axis = document.getElementById("axis");
const whole = document.getElementById("whole");
const visible = () => rows.filter((row) => passes(row));
let ready = false;

function describe(shown, list, kinds, key, below) {
  const all = [...new Set(shown.map((row) => row.place))];
  const said = [];
  if (all.length > 1) {
    said.push(`These rows come from ${all.length} places (suite, data set, net, training budget), which do not compare: ${all.map((place) => placeName(places[place])).join("; ")}. ` +
      "The table sorts within each, and the plot has a front for each.");
  }
  if (kinds.length > 1) said.push(`The plot shows ${data.measures[kinds[0]].short} only; choose a data set for ${data.measures[kinds[1]].short}.`);
  const notice = document.getElementById("notice");
  notice.hidden = said.length === 0;
  notice.textContent = said.join(" ");
  const settings = [...new Set(list.map((row) => row.at.setting).filter(Boolean))].join("; ");
  const timed = key === "measured_speedup" || key === "latency_ms";
  document.getElementById("caption").textContent = [
    `${list.length} of ${shown.length} rows have both numbers.`,
    below ? `${below} of them lie below the lower edge: tick "whole range".` : "",
    "Bars: 95 % intervals; small dots: single seeds, which stand where their row's mean stands across.",
    timed && settings ? `Times: ${settings}.` : "",
    key === "latency_ms" ? "Milliseconds of different moments do not compare as well as speed-ups, which are paired with the dense net of the moment." : "",
    "The line joins the rows that no other beats in both means; their intervals may overlap.",
  ].filter(Boolean).join(" ");
}

function listFronts(fronts, key) {
  document.getElementById("front").replaceChildren(...fronts.flatMap((one) => {
    const where = fronts.length > 1 ? ` of ${placeName(one[0].at)}` : "";
    const items = one.map((row) => {
      const button = make("button", { type: "button" }, `${row.variant} at ${short(row.target_density)}`);
      button.addEventListener("click", () => select(row, button));
      return make("li", {}, button, `: ${score(row)} %, ${digits(row[key])}`);
    });
    return [make("p", {}, `The front${where}, by ${AXES[key].title}:`), make("ol", {}, ...items)];
  }));
}

function show() {
  for (const control of form.elements) {
    if (control.type === "checkbox") control.checked = state.controls !== "";
    else if (control.name) control.value = state[control.name];
  }
  for (const select of selects) {
    const there = new Set(rows.filter((row) => passes(row, select.name)).map((row) => field(row, select.name)));
    for (const option of select.options) option.disabled = option.value !== "" && !there.has(option.value);
  }
  const shown = visible();
  axis.value = axisOf(shown);
  whole.checked = state.whole !== "";
  showTable(shown);
  if (ready) showPlot(shown);
}

function change(key, value) {
  state[key] = value;
  writeAddress();
  show();
}

/** Highlight a row, and show what is behind it. */
function select(row, from) {
  change("row", row.key);
  const box = table.parentElement; // the table moves to the row, the page stays where it is
  if (!box.contains(from)) box.scrollTop = row.line.offsetTop - box.clientHeight / 2;
  showDetails(row, from);
}

/** What the address asks for. */
function open() {
  readAddress();
  show();
  const row = rows.find((one) => one.key === state.row);
  if (row) showDetails(row, null);
  else panel.close();
}

for (const select of selects) {
  const values = [...new Set(rows.map((row) => field(row, select.name)))].filter(Boolean);
  values.sort(select.name === "target_density" ? (a, b) => b - a : undefined);
  select.append(...values.map((value) => make("option", { value }, value)));
  select.parentElement.hidden = values.length < 2; // no choice
}
axis.append(...Object.entries(AXES).map(([value, { title }]) => make("option", { value }, title)));
form.addEventListener("input", ({ target }) => change(target.name, target.type === "checkbox" ? (target.checked ? "1" : "") : target.value));
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", (event) => {
  event.preventDefault();
  for (const key of [...FILTERS, "q", "controls"]) state[key] = "";
  writeAddress();
  show();
});
axis.addEventListener("input", () => change("x", axis.value));
whole.addEventListener("input", () => change("whole", whole.checked ? "1" : ""));
table.tHead.addEventListener("click", ({ target }) => {
  const head = target.closest("th");
  if (head) change("sort", nextSort(head.dataset.key));
});
document.getElementById("download").addEventListener("click", () => download(visible()));
document.getElementById("close").addEventListener("click", closeDetails);
document.addEventListener("keydown", (event) => event.key === "Escape" && panel.open && closeDetails());
window.addEventListener("hashchange", open);
open();
loadPlotly().then(() => { ready = true; show(); }, (error) => {
  plot.textContent = `This browser cannot unpack the plot (${error.message}); the table has the same numbers.`;
});
