// The panel with what is behind one row: its numbers in words, its runs, and where their records are.
const panel = document.getElementById("details");
let opened = null;

function showDetails(row, from) {
  opened = { row, from };
  document.getElementById("details-title").textContent = `${row.variant} at density ${short(row.target_density)}`;
  const list = make("dl");
  for (const [name, text] of facts(row)) list.append(make("dt", {}, name), make("dd", {}, text));
  document.getElementById("details-body").replaceChildren(list, runList(row));
  if (!panel.open) panel.show();
  document.getElementById("close").focus({ preventScroll: true });
}

/** Back to the view without it; the focus returns to where it was, else to the row, else to the table without it. */
function closeDetails() {
  const { row, from } = opened;
  panel.close();
  change("row", "");
  const next = [from, row.line.querySelector("button"), table.parentElement].find((one) => one?.isConnected);
  next.focus({ preventScroll: !from }); // who was at the plot goes on there
}

/** [name, text] of everything known of the row that is not empty. */
function facts(row) {
  const percent = (value) => (none(value) ? null : `${fixed(100 * value, 2)} %`);
  const found = [
    ["where", placeName(row.at)],
    [row.measure.short, row.n ? `${score(row)} %` : row.status],
    ["before fine-tuning", percent(row.value_before)],
    ["tie group", row.group && `${row.group}${row.best ? ", the confidence set for the best" : ""}`],
    ["to resolve", none(row.seeds_needed) ? null : `${row.seeds_needed} seeds for its gap to the best`],
    ["Δ dense", none(row.delta_dense) ? null : `${points(row.delta_dense, row.delta_dense_half)} points`],
    ...data.controls.map((control) => [`vs ${control}`, against(row[`${control}_verdict`], row[`${control}_difference`], row[`${control}_half`], row[`${control}_p_holm`])]),
    ...ends.filter((end) => end.place === row.place && end.variant === row.variant)
      .map((end) => [`vs ${end.control}, at its end`, `${against(end.verdict, end.difference, end.half, end.p_holm)}, at density ${short(end.density)}`]),
    ["status", row.status === "ok" ? null : `${row.status}: ${row.reason}`],
    ["multiply-adds", none(row.effective_macs) ? null : `${digits(row.effective_macs / 1e6)} M with non-zero weights`],
    ["bits", none(row.weight_bits) ? null : `${short(row.weight_bits)} of a weight, ${short(row.activation_bits)} of an activation`],
    ["fastest path", row.latency_path && `${row.latency_path}: ${speedup(row)} times faster than dense, ${digits(row.latency_ms)} ms per batch`],
    ["timed on", row.latency_path && row.at.setting],
    ["other paths", row.other_paths],
    ["no time", row.latency_reason],
    ["worst class", none(row.worst_class_drop) ? null : `${fixed(100 * row.worst_class_drop, 1)} points below dense`],
    ["training", none(row.epochs) ? null : `${short(row.epochs)} epochs; ${digits(row.seconds)} s per run`],
  ];
  return found.filter(([, text]) => text);
}

function against(verdict, difference, half, p) {
  if (none(verdict)) return null;
  return `${verdict}: ${points(difference, half)} points${none(p) ? "" : `, p ${short(p)} (Holm)`}`;
}

/** A line for each run; its id leads to its record where the suite's folder is at hand. */
function runList(row) {
  return make("ul", {}, ...row.seeds.map(([number, value]) => {
    const { run, seed, status, git_commit: commit, device, torch, started } = runs[number];
    const result = none(value) ? (status === "ok" ? "not reached" : status) : `${fixed(100 * value, 2)} %`;
    const name = row.at.runs ? make("a", { href: `${row.at.runs}${encodeURIComponent(run)}/record.json` }, run) : run;
    const about = [`seed ${seed}`, result, commit && `commit ${commit.slice(0, 8)}`, device, torch && `torch ${torch}`, started?.slice(0, 10)];
    return make("li", {}, name, make("small", {}, about.filter(Boolean).join(", ")));
  }));
}
