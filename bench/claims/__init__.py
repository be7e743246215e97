"""The scorecard: what the papers claim beside what the published records say.

`claims.yaml` lists the claims, `schema` says what it may hold, `kinds` how records answer it,
`verdict` when a claim counts as reproduced. No result is typed: numbers and verdicts come from the
tidy tables in results/published.
"""

from __future__ import annotations

from pathlib import Path

from bench.claims import figure, table
from bench.claims.schema import read
from bench.claims.scorecard import score
from bench.tables.render import latex

NAME = "scorecard"
"""Its folder in results/published, and its files."""


def write(published: Path, out: Path | None = None) -> list[Path]:
    """Write `tables/scorecard.{csv,md,tex}` and `figures/scorecard.{pdf,png}`; the files.

    From the suites in `published`, into `published/scorecard` or the folder `out`. Raises
    `ConfigError` with file, claim and key for a claim that is wrong or that nothing answers.
    """
    folder = published / NAME if out is None else out
    rows = score(published, read())
    texts = {
        "csv": table.frame(rows).to_csv(index=False, float_format="%.6g", lineterminator="\n"),
        "md": table.screen(rows),
        "tex": latex(NAME, table.print_blocks(rows)),
    }
    (folder / "tables").mkdir(parents=True, exist_ok=True)
    files = []
    for suffix, text in texts.items():
        files.append(folder / "tables" / f"{NAME}.{suffix}")
        files[-1].write_text(text, encoding="utf-8")
    return [*files, *figure.draw(rows, folder / "figures", NAME)]
