// What rows are plotted over, how high they stand, and round ticks on log axes.
const plot = document.getElementById("plot");
const MARGIN = 80; // pixels left and right of the plot's area, about; above and below it half as much again
const AXES = {
  measured_speedup: { title: "measured speed-up, ×", more: true, interval: ["speedup_low", "speedup_high"] },
  latency_ms: { title: "median time, ms per batch", more: false },
  theoretical_speedup: { title: "theoretical speed-up, × (multiply-adds)", more: true },
  density: { title: "weights kept, measured density", more: false },
  kib: { title: "size on disk, KiB", more: false },
};
for (const row of rows) row.kib = none(row.bits) ? null : row.bits / 8192;

/** The chosen axis; without a choice the measured speed-up, where any row shown has one. */
function axisOf(shown) {
  if (AXES[state.x]) return state.x;
  return shown.some((row) => !none(row.measured_speedup)) ? "measured_speedup" : "theoretical_speedup";
}

/** The ends of the x axis, worst first, as natural logarithms. */
function across(list, key) {
  const logs = list.map((row) => Math.log(row[key]));
  const [low, high] = [Math.min(...logs), Math.max(...logs)];
  const margin = 0.03 + 0.04 * (high - low);
  return AXES[key].more ? [low - margin, high + margin] : [high + margin, low - margin];
}

/** Where a value stands: its error, at least half a test sample, since the axis is logarithmic. */
const floor = (row) => 0.5 / Math.max(row.at.samples, 1);
const height = (row, value) => Math.max(row.at.lower ? value : 1 - value, floor(row));

/** Row -> where it stands, in pixels from the left upper corner of the plot's area, about. */
function placed(key, [left, right], [bottom, top]) {
  const [wide, tall] = [plot.clientWidth - MARGIN, plot.clientHeight - 1.5 * MARGIN];
  return (row) => [
    wide * (Math.log(row[key]) - left) / (right - left),
    tall * Math.log(height(row, row.value) / top) / Math.log(bottom / top),
  ];
}

/** 1, 2, 5, 10, ... within [low, high], finer where that is less than a factor of six. */
function logTicks(low, high, most) {
  const leads = high < 1.6 * low ? [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.7, 2, 2.5, 3, 4, 5, 6, 7, 8, 9] : high < 6 * low ? [1, 1.5, 2, 3, 4, 5, 7] : [1, 2, 5];
  let found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    found.push(...leads.map((lead) => Number((lead * 10 ** power).toPrecision(3))).filter((tick) => tick >= low && tick <= high));
  }
  while (found.length > most) found = found.filter((_, i) => i % 2 === 0);
  return found;
}

/** Errors at which the y axis is labelled, at least an eleventh of its length apart. */
function errorTicks(low, high) {
  const nice = [0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.08, 0.09, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 2, 5, 10];
  const gap = Math.log(high / low) / 11;
  const kept = [];
  for (const tick of nice) {
    if (tick >= low && tick <= high && (!kept.length || Math.log(tick / kept.at(-1)) >= gap)) kept.push(tick);
  }
  return kept;
}

/**
 * The largest error that the plot shows. A few collapsed nets would press all others together, so that beyond nine
 * tenths of the rows they are left below the edge, where they are many times worse, unless the whole range is asked for.
 */
function lowerEdge(errors, fronts) {
  const ascending = errors.toSorted((a, b) => a - b);
  const worst = ascending.at(-1);
  const most = Math.max(ascending[Math.floor(0.9 * (ascending.length - 1))], ...fronts);
  return 1.15 * (state.whole || worst < 1.6 * most ? worst : most);
}
