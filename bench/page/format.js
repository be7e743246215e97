// How numbers are written: as in the tables that lie beside this page.
const DASH = "–";
const none = (value) => value === null || value === undefined;
const fixed = (value, places) => (none(value) ? DASH : value.toFixed(places));
const signed = (value, places) => (none(value) ? DASH : (value < 0 ? "" : "+") + value.toFixed(places));
const short = (value) => (none(value) ? DASH : String(Number(value.toPrecision(3))));

/** Three significant digits, never as a power of ten: 0.0123, 1.20, 12346. */
function digits(value) {
  if (none(value)) return DASH;
  if (value === 0) return "0";
  return value.toFixed(Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value)))));
}

/** 91.58 ± 0.44 (3); ~ before what was read off a curve; a word where no seed is left. */
function score(row) {
  if (row.n === 0) return row.status;
  const half = none(row.value_half) ? "" : ` ± ${fixed(100 * row.value_half, 2)}`;
  return `${row.interpolated ? "~" : ""}${fixed(100 * row.value, 2)}${half} (${row.n})`;
}

/** A difference of fractions in points, with half of its interval. */
function points(difference, half) {
  if (none(difference)) return DASH;
  return signed(100 * difference, 2) + (none(half) ? "" : ` ± ${fixed(100 * half, 2)}`);
}

function speedup(row) {
  const interval = none(row.speedup_low) ? "" : ` [${digits(row.speedup_low)}, ${digits(row.speedup_high)}]`;
  return digits(row.measured_speedup) + interval;
}

/** What stands in a cell, by the form of its column. */
const FORMS = {
  digits: (row, key) => digits(row[key]),
  two: (row, key) => fixed(row[key], 2),
  density: (row, key) => short(row[key]),
  kib: (row, key) => digits(none(row[key]) ? null : row[key] / 8192),
  text: (row, key) => row[key] ?? "",
  variant: (row) => row.variant,
  score,
  points: (row, key) => points(row[key], row[`${key}_half`]),
  speedup,
  verdict: (row, key) => {
    const control = key.replace(/_verdict$/, "");
    return none(row[key]) ? "" : `${row[key]} ${points(row[`${control}_difference`], null)}`;
  },
  status: (row) => row.status,
};
