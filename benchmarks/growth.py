"""How time and memory grow, from 10^5 pairs to 10^8.

    python benchmarks/growth.py                  # 10^5, 10^6, 10^7: 3 minutes, 2.2 GiB
    python benchmarks/growth.py 100000000        # a size alone: 10^8 takes 10 minutes, 7 GiB

The data is generated (see `generated.py`), 3 users and 3 items to 100 pairs, of either a million
at most. Each size is gone through once a mixture, `rns`, `dns:pool=32` and the standard set, in a
process of its own; its stages are those of `search`, but that at most 640 steps of an epoch are
taken, and at most 2,048 users ranked for: what all would take is these times a number.

Writes `benchmarks/results/growth.json` after each process, and goes on from what is there: a
piece is not run again unless `--again` says so. Then `growth_page.py` writes the table and the
plot.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from growth_page import write_page
from peer_environment import default_folder
from record import RESULTS, machine

SIZES = (10**5, 10**6, 10**7)
MIXTURES = {"rns": ("rns",), "dns:pool=32": ("dns:pool=32",), "standard set": ()}


def main(given: list[str] | None = None) -> None:
    """Runs the pieces that are missing and writes the page."""
    arguments = parse(given)
    output: Path = arguments.output
    result = json.loads(output.read_text()) if output.is_file() else {"sizes": {}}
    for num_pairs in arguments.sizes or SIZES:
        pieces = result["sizes"].setdefault(str(num_pairs), {})
        for name, samplers in MIXTURES.items():
            if name not in pieces or arguments.again:
                pieces[name] = piece(arguments.data, num_pairs, samplers)
                output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
                print(f"{num_pairs:>11,} {name:<12} {summary(pieces[name])}", flush=True)
    write_page(result)


def piece(data: Path, num_pairs: int, samplers: tuple[str, ...]) -> dict[str, Any]:
    """One size under one mixture, in a process of its own."""
    folder = data / str(num_pairs)
    if not (folder / "test.txt").is_file():
        rows = min(3 * num_pairs // 100, 10**6)
        in_its_own_process("generated.py", folder, rows, rows, num_pairs)
    seen_on = machine()
    told = in_its_own_process("growth_piece.py", folder, *samplers)
    return {"machine": seen_on, **json.loads(told)}


def in_its_own_process(script: str, *arguments: object) -> str:
    """What a script beside this one prints."""
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def summary(found: dict[str, Any]) -> str:
    """A line of what a piece took."""
    stages = found["stages"]
    step = 1e3 * stages["steps"]["seconds"] / found["steps"]
    peak = max(stage["peak_mib"] for stage in stages.values())
    return f"read {stages['read']['seconds']:.1f} s, step {step:.1f} ms, peak {peak} MiB"


def parse(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="*", type=int, help="in pairs; default 10^5, 10^6, 10^7")
    parser.add_argument("--again", action="store_true", help="also what is measured already")
    parser.add_argument("--data", type=Path, default=default_folder().parent / "growth",
                        help="where the generated files are kept")  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULTS / "growth.json")
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
