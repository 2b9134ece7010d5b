"""Tables of the documents that are made from results."""

from __future__ import annotations

from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PERFORMANCE = DOCS / "performance.md"


def fill(page: Path, name: str, text: str) -> None:
    """Puts a text between a page's marks `<!-- NAME -->` and `<!-- NAME: end -->`."""
    first, last = f"<!-- {name} -->", f"<!-- {name}: end -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(first)
    _, found, after = rest.partition(last)
    if not found:
        raise SystemExit(f"Expected {first} and {last} in {page}; received neither or one.")
    page.write_text(f"{before}{first}\n\n{text}\n\n{last}{after}", encoding="utf-8")


def markdown(head: list[str], rows: list[list[str]]) -> str:
    """A table whose first column is text and whose others are figures."""
    ruler = ["---", *("--:" for _ in head[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ruler, *rows))


def four(value: float) -> str:
    """`.1234`."""
    return f"{value:.4f}".removeprefix("0")
