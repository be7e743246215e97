"""Text of a table: Markdown and LaTeX (booktabs) from one description."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "×": r"$\times$",  # noqa: RUF001
    "–": "--",  # noqa: RUF001
    "≥": r"$\ge$",
    "Δ": r"$\Delta$",
}


@dataclass(frozen=True)
class Cell:
    """One cell; `bold` marks the best of its column."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Block:
    """One table: a title, a header, sections of rows (each under its own name) and footnotes.

    A `wide` one spans both columns of a page in LaTeX and is shrunk to the width of the text.
    """

    title: str
    header: tuple[str, ...]
    sections: tuple[tuple[str, tuple[tuple[Cell, ...], ...]], ...]
    notes: tuple[str, ...] = field(default=())
    wide: bool = False


def line(*values: object) -> tuple[Cell, ...]:
    """A row of plain cells; None and nan are blank."""
    return tuple(
        Cell("" if value is None or str(value) in ("nan", "<NA>") else str(value))
        for value in values
    )


def markdown(blocks: Sequence[Block]) -> str:
    """The blocks as GitHub-flavoured Markdown, first column left, others right aligned."""
    return "\n".join(markdown_block(block) for block in blocks)


def markdown_block(block: Block) -> str:
    """One block: heading, table with a row per section name, footnotes."""
    width = len(block.header)
    lines = [f"### {block.title}", ""]
    lines += [row_text(block.header), row_text((":--", *["--:"] * (width - 1)))]
    for name, rows in block.sections:
        if name:
            lines.append(row_text((f"*{name}*", *[""] * (width - 1))))
        for row in rows:
            lines.append(
                row_text(
                    [
                        f"**{cell.text}**" if cell.bold else cell.text.replace("|", r"\|")
                        for cell in row
                    ]
                )
            )
    lines += ["", *(f"- {note}" for note in block.notes), ""]
    return "\n".join(lines)


def row_text(values: Sequence[str]) -> str:
    """One Markdown table row."""
    return "| " + " | ".join(values) + " |"


def escape(text: str) -> str:
    """`text` so that LaTeX prints it as it is."""
    return "".join(SPECIAL.get(character, character) for character in text)


def latex(name: str, blocks: Sequence[Block]) -> str:
    """The blocks as LaTeX tables; labels are `tab:<name>-<number>`.

    The document needs the packages `booktabs`, `threeparttable` and, for wide blocks, `graphicx`.
    """
    packages = ["booktabs", "threeparttable"]
    packages += ["graphicx"] if any(block.wide for block in blocks) else []
    head = (
        f"% Generated from tidy tables; do not edit. Needs \\usepackage{{{','.join(packages)}}}.\n"
    )
    return head + "\n".join(
        latex_block(f"tab:{name}-{index}", block) for index, block in enumerate(blocks, 1)
    )


def latex_block(label: str, block: Block) -> str:
    """One block as a `table` (wide: `table*`) environment with its notes below it."""
    caption = [rf"\caption{{{escape(block.title)}}}", rf"\label{{{label}}}"]
    if block.wide:
        # threeparttable cannot see the width of a scaled table, so a minipage has the notes
        lines = [r"\begin{table*}", r"\centering", *caption, r"\setlength{\tabcolsep}{3pt}"]
        *body, last = tabular(block)
        lines += [r"\resizebox{\textwidth}{!}{%", *body, last + "}"]
        if block.notes:
            notes = [rf"{escape(note)}\par" for note in block.notes]
            opening = r"\begin{minipage}{\textwidth}\footnotesize\raggedright"
            lines += ["", r"\smallskip", opening, *notes, r"\end{minipage}"]
        return "\n".join([*lines, r"\end{table*}", ""])
    lines = [r"\begin{table}", r"\centering", r"\begin{threeparttable}", *caption]
    lines += tabular(block)
    if block.notes:
        notes = [rf"\item {escape(note)}" for note in block.notes]
        lines += [r"\begin{tablenotes}\footnotesize", *notes, r"\end{tablenotes}"]
    return "\n".join([*lines, r"\end{threeparttable}", r"\end{table}", ""])


def tabular(block: Block) -> list[str]:
    """The lines of the `tabular` environment: header, section names and rows."""
    width = len(block.header)
    lines = [rf"\begin{{tabular}}{{l{'r' * (width - 1)}}}", r"\toprule"]
    lines.append(" & ".join(escape(value) for value in block.header) + r" \\")
    for name, rows in block.sections:
        lines.append(r"\midrule")
        if name:
            lines.append(rf"\multicolumn{{{width}}}{{l}}{{\emph{{{escape(name)}}}}} \\")
        for row in rows:
            texts = [
                rf"\textbf{{{escape(cell.text)}}}" if cell.bold else escape(cell.text)
                for cell in row
            ]
            lines.append(" & ".join(texts) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}"]
