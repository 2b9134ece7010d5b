"""Writes docs/samplers.md and a page a sampler, from the registry and the results.

    python benchmarks/sampler_pages.py

What a sampler is comes from its card and docstrings, what it did from
`benchmarks/results/samplers/`. `tests/test_documents.py` holds the pages to the registry.
"""

from __future__ import annotations

import inspect
import json
import sys
from pathlib import Path
from typing import Any

from tables import DOCS, four

from autosample_tf.samplers import SAMPLERS, Sampler, build_sampler
from autosample_tf.settings import STANDARD_SET

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "samplers"
REFERENCE = "dns"
COLUMNS = {
    "test recall@20": lambda r: four(r["test"]["recall@20"]),
    "test ndcg@20": lambda r: four(r["test"]["ndcg@20"]),
    "l2": lambda r: str(r["l2"]),
    "epochs": lambda r: str(r["epochs"]),
    "ms a step": lambda r: f"{r['milliseconds']:.1f}",
    "false negatives": lambda r: f"{100 * r['health']['false_negatives']:.2f} %",
    "popularity percentile": lambda r: f"{r['health']['popularity']:.2f}",
    "s_p - s_n": lambda r: f"{r['health']['positive_score'] - r['health']['negative_score']:.2f}",
    "distinct": lambda r: f"{r['health']['distinct']:.0f}",
}
LEGEND = """\
`ms a step`: of 2,048 pairs, this sampler alone, medians of rounds in turns. `false negatives`:
share of the negatives that are validation positives, averaged over the epochs of retraining, as
are the mean popularity percentile of the negatives (uniform draws: .50), the mean score of
positives less that of negatives, and the effective number of distinct negatives a step."""


def results(dataset: Path) -> dict[str, dict[str, Any]]:
    """Each sampler's better run by validation NDCG@20, with its milliseconds."""
    times = json.loads((dataset / "milliseconds.json").read_text())["milliseconds"]
    best: dict[str, dict[str, Any]] = {}
    for path in sorted(dataset.glob("*-l2-*.json")):
        name, _, l2 = path.stem.partition("-l2-")
        run = {**json.loads(path.read_text()), "l2": float(l2), "milliseconds": times[name]}
        if name not in best or run["valid"]["ndcg@20"] > best[name]["valid"]["ndcg@20"]:
            best[name] = run
    return best


def datasets() -> dict[str, dict[str, dict[str, Any]]]:
    """The results by dataset and sampler; of datasets whose runs are finished."""
    folders = sorted(RESULTS.glob("*/milliseconds.json"))
    return {path.parent.name: results(path.parent) for path in folders}


def table(runs: dict[str, dict[str, Any]], link: bool) -> str:
    """A Markdown table, a row a sampler."""
    lines = [f"| sampler | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, run in runs.items():
        title = f"[`{name}`](samplers/{name}.md)" if link else f"`{name}`"
        lines.append(f"| {title} | {' | '.join(cell(run) for cell in COLUMNS.values())} |")
    return "\n".join(lines)


def difference(name: str, runs: dict[str, dict[str, Any]]) -> str:
    """A sentence on where the sampler differs from the reference, from the figures."""
    own, reference = runs[name], runs[REFERENCE]
    ndcg = own["test"]["ndcg@20"] / reference["test"]["ndcg@20"] - 1
    false = own["health"]["false_negatives"], reference["health"]["false_negatives"]
    popularity = own["health"]["popularity"], reference["health"]["popularity"]
    cost = own["milliseconds"] / reference["milliseconds"]
    return (
        f"test NDCG@20 {ndcg:+.1%} against `{REFERENCE}`, {cost:.2f} times its step, "
        f"{100 * false[0]:.2f} % false negatives against {100 * false[1]:.2f} %, negatives at "
        f"popularity percentile {popularity[0]:.2f} against {popularity[1]:.2f}."
    )


def page(name: str, own: type[Sampler], measured: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The Markdown page of one sampler."""
    card, built = own.card, build_sampler(name)
    options = "\n".join(
        f"| `{option}` | {value} | {card.defaults[option]} |"
        for option, value in built.options().items()
    )
    parts = [
        f"# `{name}`",
        f"{code(card.formula)}\n\nSource: {card.source}. Cost: {card.cost}.",
        inspect.getdoc(inspect.getmodule(own)).replace("<", "&lt;"),
        f"## Options\n\n```text\n{inspect.getdoc(own)}\n```",
        f"`--sampler {built.spec}`, the defaults:",
    ]
    if options:
        parts.append(f"| option | default | from |\n|---|---|---|\n{options}")
    parts.append(f"## Measured\n\nMF, this sampler alone. {LEGEND}")
    for dataset, runs in measured.items():
        if name not in runs:
            parts.append(f"{dataset}: not run, for it has no given negatives.")
            continue
        pair = {key: runs[key] for key in dict.fromkeys((name, REFERENCE))}
        parts.append(f"### {dataset}\n\n{table(pair, link=False)}")
        if name != REFERENCE:
            parts.append(f"{dataset}: {difference(name, runs)}")
    parts.append("[All samplers](../samplers.md)")
    return "\n\n".join(parts) + "\n"


def code(text: str) -> str:
    """Text as code, backticks of its own kept."""
    return f"`` {text} ``" if text.startswith("`") or text.endswith("`") else f"``{text}``"


def in_cell(text: str) -> str:
    """Text in a table, whose bars are none of the table's and whose signs are no HTML."""
    return text.replace("|", "&#124;").replace("<", "&lt;")


def overview(measured: dict[str, dict[str, dict[str, Any]]]) -> str:
    """The Markdown page of all samplers."""
    rows = "\n".join(
        f"| [`{name}`](samplers/{name}.md) | {in_cell(own.card.formula)} | {own.card.source} |"
        for name, own in SAMPLERS.items()
    )
    parts = [
        "# The samplers",
        f"| name | rule | source |\n|---|---|---|\n{rows}",
        "The standard set, which a search takes where no `--sampler` is given: "
        + ", ".join(f"`{spec}`" for spec in STANDARD_SET)
        + ".",
        "## Alone, with MF\n\nSingle runs with one seed: differences of a few per cent say "
        "nothing. L2 is the better of .05 and .005 by validation NDCG@20, everything else the "
        "default but for the learning rate, which does not decay, and for where retraining starts "
        "(`--rate-decays 0 --shrink 1`); of ml-100k ratings of 4 and 5 are positives, lower ones "
        "given negatives (`--label-column rating --positive-from 4`); test "
        f"metrics. {LEGEND} Made by `python benchmarks/samplers.py`, whose results "
        "are in `benchmarks/results/samplers/`.",
    ]
    for dataset, runs in measured.items():
        ordered = {name: runs[name] for name in SAMPLERS if name in runs}
        parts.append(f"### {dataset}\n\n{table(ordered, link=True)}")
    return "\n\n".join(parts) + "\n"


def pages() -> dict[Path, str]:
    """Every document's path and text."""
    measured = datasets()
    each = {DOCS / "samplers" / f"{n}.md": page(n, own, measured) for n, own in SAMPLERS.items()}
    return {DOCS / "samplers.md": overview(measured), **each}


def write_pages() -> None:
    """Writes them all."""
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_pages()
    sys.exit(0)
