// The rows, unpacked, and which of them the address asks for.
const data = JSON.parse(document.getElementById("data").textContent);

/** Columns -> records; a column with `texts` says where in them each value is. */
function unpack(columns) {
  const read = Object.entries(columns).map(([name, column]) =>
    [name, Array.isArray(column) ? column : column.at.map((place) => (place === null ? null : column.texts[place]))]);
  const length = read.length ? read[0][1].length : 0;
  return Array.from({ length }, (_, i) => Object.fromEntries(read.map(([name, values]) => [name, values[i]])));
}

const places = unpack(data.places);
const runs = unpack(data.runs);
const ends = unpack(data.ends);
const rows = unpack(data.rows);
for (const row of rows) {
  row.at = places[row.place];
  row.measure = data.measures[row.at.measure];
  row.score = none(row.value) ? null : row.at.lower ? -row.value : row.value;
  row.key = [row.at.suite, row.at.dataset, row.at.arch, row.at.tier, row.variant, row.target_density].join(" ");
  row.text = [row.variant, row.family, row.pattern, ...row.seeds.map(([run]) => runs[run].run)].join(" ").toLowerCase();
}

const selects = [...document.querySelectorAll("#filters select")];
const FILTERS = selects.map((select) => select.name);
const DEFAULTS = { ...Object.fromEntries(FILTERS.map((key) => [key, ""])), ...data.opens, q: "", controls: "", sort: "", x: "", whole: "", row: "" };
const state = { ...DEFAULTS };

const field = (row, key) => String(row[key] ?? row.at[key] ?? "");

/** A view is its address: what differs from the defaults stands after the #. */
function readAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const key of Object.keys(DEFAULTS)) state[key] = asked.get(key) ?? DEFAULTS[key];
  for (const key of FILTERS) if (state[key] && !rows.some((row) => field(row, key) === state[key])) state[key] = "";
}

function writeAddress() {
  const told = Object.entries(state).filter(([key, value]) => value !== DEFAULTS[key]);
  history.replaceState(null, "", `#${new URLSearchParams(told)}`);
}

/** Whether the filters, but for that of `except`, let a row through. */
function passes(row, except) {
  if (row.block === "control" && !state.controls) return false;
  if (!state.q.toLowerCase().split(/\s+/).every((word) => row.text.includes(word))) return false;
  return FILTERS.every((key) => key === except || !state[key] || field(row, key) === state[key]);
}

const placeName = (at) => [at.suite, at.dataset, at.arch, `${at.tier} budget`].join(", ");

/** As few words as tell a place from the others. */
function shortName(at, others) {
  const telling = ["suite", "arch", "dataset", "tier"].filter((key) => new Set(others.map((other) => other[key])).size > 1);
  const name = (other, count) => telling.slice(0, count).map((key) => other[key]).join(" ");
  const enough = telling.findIndex((_, last) => new Set(others.map((other) => name(other, last + 1))).size === others.length);
  return name(at, enough + 1);
}
