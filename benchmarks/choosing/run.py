"""Does the search choose well? Every candidate alone, their mixture, AutoSample, and ablations.

    python benchmarks/choosing/run.py path/to/lastfm-lightgcn --model mf --seeds 0,1,2

is `autosample-tf compare` with the variants below as further contestants. What has run stays in
`--runs`, and the next call goes on from there; a run is `autosample-tf search`. Writes
`benchmarks/results/choosing/<dataset>-<model>.json`, of which `page.py` makes the tables of
`docs/choosing.md`. What is called with other first seeds than 0 gets a file of its own
(`<dataset>-<model>-seeds-1-2.json`), and `page.py` puts both into one row.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import RESULTS, machine

from autosample_tf.comparison.comparing import Outcome, compare
from autosample_tf.comparison.processes import search_separately
from autosample_tf.reading.sources import default_name
from autosample_tf.settings import Settings
from autosample_tf.training import Source

# What each has other than the default.
VARIANTS: dict[str, dict[str, Any]] = {
    "objective uniform": {"objective": "uniform"},
    "objective branches": {"objective": "branches"},
    "objective asng": {"objective": "asng"},
    "objective bilevel": {"objective": "bilevel"},
    "objective joint": {"objective": "joint"},
    "nothing dropped": {"drop_threshold": 0.0},
    "not shrunk": {"shrink": 1.0},
    "retrained from scratch": {"init": "scratch"},
    "retrained from the warm-up": {"init": "rewind"},
    "instance mixing": {"mixing": "instance"},
    "no trial": {"trial_epochs": 0},
    "trial of 5 epochs": {"trial_epochs": 5},
    "temperature 0.1": {"temperature": 0.1},
    "temperature 1": {"temperature": 1.0},
}
RUNS = Path("~/.cache/autosample-tf/choosing")


def main(given: list[str] | None = None) -> None:
    """Runs what is missing, and writes what all came to."""
    arguments = parse(given)
    pair = f"{default_name(str(Path(arguments.path).resolve()))}-{arguments.model}"
    name = file_name(pair, arguments.seeds)
    changes = {key: json.loads(value) for key, value in (s.split("=", 1) for s in arguments.set)}
    settings = Settings(model=arguments.model, **changes)
    variants = {variant: VARIANTS[variant] for variant in arguments.variants}
    seen_on, run_dir = machine(), arguments.runs.expanduser() / name
    found = compare(
        Source(arguments.path),
        settings,
        run_dir=run_dir,
        seeds=arguments.seeds,
        against=arguments.against,
        variants=variants,
        resume=(run_dir / "config.json").is_file(),
        on_outcome=tell,
        runner=search_separately,
    )
    output = RESULTS / "choosing" / f"{name}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    record = {"command": command(arguments), "machine": seen_on, "settings": settings.to_dict(),
              "variants": variants, "result": found}  # fmt: skip
    output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def file_name(pair: str, seeds: list[int]) -> str:
    """Of further seeds, a file beside that of the first ones."""
    return pair if seeds[0] == 0 else f"{pair}-seeds-{'-'.join(map(str, seeds))}"


def command(arguments: argparse.Namespace) -> str:
    """What was called, places on this machine left out."""
    parts = ["python benchmarks/choosing/run.py", Path(arguments.path).resolve().name]
    parts += ["--model", arguments.model, "--seeds", ",".join(map(str, arguments.seeds))]
    parts += ["--variants", f"'{','.join(arguments.variants)}'"]
    parts += [f"--against {shlex.quote(each)}" for each in arguments.against or ()]
    return " ".join([*parts, *(f"--set {shlex.quote(each)}" for each in arguments.set)])


def tell(outcome: Outcome) -> None:
    """A line a run."""
    valid = {k: v.mean() for k, v in outcome.per_user["valid"].items() if k.startswith("ndcg")}
    figures = "  ".join(f"{metric} {value:.4f}" for metric, value in valid.items())
    print(f"seed {outcome.seed}  {outcome.contestant}  {figures}  {outcome.seconds:.0f} s",
          flush=True)  # fmt: skip


def parse(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="a dataset, as `search --dataset` takes it")
    parser.add_argument("--model", default="mf")
    parser.add_argument("--seeds", type=lambda text: [int(x) for x in text.split(",")],
                        default=[0, 1, 2])  # fmt: skip
    parser.add_argument("--variants", type=lambda text: [v for v in text.split(",") if v],
                        default=list(VARIANTS), help="all (default), some, or ''")  # fmt: skip
    parser.add_argument("--against", action="append", metavar="SAMPLER",
                        help="as of `compare`; repeatable, all candidates by default")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=JSON",
                        help="a setting of everybody, as batch_size=8192; repeatable")  # fmt: skip
    parser.add_argument("--runs", type=Path, default=RUNS, help=f"of the run folders ({RUNS})")
    return parser.parse_args(given)


if __name__ == "__main__":
    main()
