"""The tables of docs/performance.md that come from results.

    python benchmarks/performance_page.py

reads `peers.json`, `time-to-quality.json` and `roofline.json` in `benchmarks/results/` and
writes each one's table between its marks; what has no results yet is left as it is.
"""

from __future__ import annotations

import json
from typing import Any

from record import RESULTS
from tables import PERFORMANCE, fill, four, markdown


def main() -> None:
    """Writes the tables whose results are there."""
    for name, table in {
        "peers": peers,
        "time-to-quality": time_to_quality,
        "roofline": roofline,
    }.items():
        path = RESULTS / f"{name}.json"
        if path.is_file():
            fill(PERFORMANCE, name, table(json.loads(path.read_text(encoding="utf-8"))))


def peers(result: dict[str, Any]) -> str:
    """Seconds of each library in each case, and how many times ours its own are."""
    rows = []
    for case, measured in result["cases"].items():
        for name, row in measured.items():
            if not isinstance(row, dict):  # the load that the case began at
                continue
            rows.append(
                [
                    case,
                    name,
                    f"{row['seconds']:.2f}",
                    f"{row['fastest']:.2f}",
                    f"{row['ratio']:.2f}" if "ratio" in row else "",
                    f"{row['peak_mib']:,}" if "peak_mib" in row else "",
                    four(row["recall@20"]) if "recall@20" in row else "",
                ]
            )
    head = ["", "", "median, s", "fastest, s", "ratio", "peak, MiB", "Recall@20"]
    return f"{seen_on(result)}\n\n{markdown(head, rows)}"


def seen_on(result: dict[str, Any]) -> str:
    """The machine and the libraries, in a line."""
    machine = result["machine"]
    versions = ", ".join(
        f"{name} {version}"
        for names in result.get("packages", {}).values()
        for name, version in names.items()
    )
    threads = f", {result['threads']} threads" if "threads" in result else ""
    return f"{machine['cpu']}, {machine['cpus']} cores{threads}. {versions}".strip()


def time_to_quality(result: dict[str, Any]) -> str:
    """Training seconds until each Recall@20 is passed."""
    rows = []
    for mark in result["marks"]:
        ratio = f"{mark['ratio']:.1f}" if mark["ratio"] else "-"
        rows.append(
            [
                four(mark["recall@20"]),
                seconds(mark["autosample-tf"]),
                seconds(mark["RecBole"]),
                f"at least {ratio}" if mark["ratio_is_at_least"] else ratio,
            ]
        )
    head = ["Recall@20 passed after", "autosample-tf", "RecBole", "ratio"]
    told = seen_on({**result, "machine": result["autosample-tf"]["machine"]})
    return f"{told}\n\n{markdown(head, rows)}"


def seconds(value: float | None) -> str:
    """A time, or a dash for never."""
    return "-" if value is None else f"{value:.0f} s"


def roofline(result: dict[str, Any]) -> str:
    """The least that each part of a step takes on this machine, and what the step takes."""
    rates = result["rates"]
    told = (
        f"{result['machine']['cpu']}, {result['machine']['cpus']} cores: copies "
        f"{rates['copied_bytes'] / 1e9:.1f} GB/s, rows at random places "
        f"{rates['row_bytes'] / 1e9:.1f} GB/s, {rates['slots'] / 1e6:.0f} M hash slots/s, "
        f"{rates['flop'] / 1e9:.0f} Gflop/s."
    )
    steps = result["steps"]
    parts = list(next(iter(steps.values()))["least_milliseconds"])
    rows = [
        [part, *(f"{step['least_milliseconds'][part]:.2f}" for step in steps.values())]
        for part in parts
    ]
    rows.append(["together", *(f"{step['least_total']:.2f}" for step in steps.values())])
    rows.append(["measured", *(f"{step['measured']['median']:.2f}" for step in steps.values())])
    return f"{told}\n\n{markdown(['least ms a step', *steps], rows)}"


if __name__ == "__main__":
    main()
