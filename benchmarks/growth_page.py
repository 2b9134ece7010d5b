"""What `growth.py` has measured, as a table and a plot.

    python benchmarks/growth_page.py

reads `benchmarks/results/growth.json`, writes the table into `docs/performance.md` and the plot
`docs/growth.svg`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from record import RESULTS
from tables import DOCS, PERFORMANCE, fill, markdown

SET = "standard set"  # whose process stands for what all of them do
PREPARING = ("read", "split", "describe", "build")
MICRO, MIB = 1e6, 2**20


def write_page(result: dict[str, Any]) -> None:
    """Writes the table and the plot."""
    rows = [row(pieces) for pieces in ordered(result) if SET in pieces]
    fill(PERFORMANCE, "growth", table(rows))
    plot(rows, DOCS / "growth.svg")


def ordered(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The pieces of each size, the smallest first."""
    return [result["sizes"][size] for size in sorted(result["sizes"], key=int)]


def row(pieces: dict[str, Any]) -> dict[str, Any]:
    """A size's figures: microseconds and bytes a pair, by what they are of.

    Memory is above what the process has before it reads anything, mostly TensorFlow's code.
    """
    whole, stages = pieces[SET], pieces[SET]["stages"]
    data = whole["data"]
    pairs = data["train"] + data["valid"] + data["test"]
    start = stages["start"]["peak_mib"]

    def bytes_a_pair(*names: str) -> float:
        return (max(stages[name]["peak_mib"] for name in names) - start) * MIB / pairs

    def step(piece: dict[str, Any]) -> float:
        return MICRO * piece["stages"]["steps"]["seconds"] / (piece["steps"] * 2048)

    ranked = whole["ranked_users"] * data["items"]
    return {
        "pairs": pairs,
        "users": data["users"],
        "items": data["items"],
        "seconds": {
            **{name: MICRO * stages[name]["seconds"] / pairs for name in PREPARING},
            **{f"step, {name}": step(piece) for name, piece in pieces.items()},
        },
        "ranking": 1e9 * stages["rank"]["seconds"] / ranked,
        "bytes": {
            "reading": bytes_a_pair("read", "split", "describe"),
            "building": bytes_a_pair("build"),
            "training": bytes_a_pair("trace", "steps"),
            "ranking": bytes_a_pair("evaluator", "rank first", "rank"),
        },
        "peak": max(stage["peak_mib"] for stage in stages.values()),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a column a size."""
    lines = [
        ("users, items", [f"{row['users']:,}, {row['items']:,}" for row in rows]),
        *((f"{name}, µs a pair", [f"{row['seconds'].get(name, float('nan')):.2f}" for row in rows])
          for name in rows[-1]["seconds"]),
        ("ranking, ns a user and item", [f"{row['ranking']:.1f}" for row in rows]),
        *((f"peak of {name}, bytes a pair", [f"{row['bytes'][name]:,.0f}" for row in rows])
          for name in rows[-1]["bytes"]),
        ("peak of all, MiB", [f"{row['peak']:,}" for row in rows]),
    ]  # fmt: skip
    head = ["pairs", *(f"{row['pairs']:,}" for row in rows)]
    return markdown(head, [[name, *cells] for name, cells in lines])


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Microseconds and bytes a pair over pairs, both axes logarithmic."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"  # the same bytes for the same figures
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4.8), layout="constrained")
    pairs = [row["pairs"] for row in rows]
    for axis, kind, title in zip(
        axes, ("seconds", "bytes"), ("microseconds a pair", "peak, bytes a pair"), strict=True
    ):
        for name in rows[-1][kind]:
            axis.plot(pairs, [row[kind].get(name) for row in rows], marker="o", label=name)
        axis.set(xscale="log", yscale="log", xlabel="pairs", title=title)
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def main() -> None:
    """Writes both from the results that are there."""
    write_page(json.loads((RESULTS / "growth.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
