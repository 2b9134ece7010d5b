"""What `run.py` has seen, as the tables of `docs/choosing.md`.

    python benchmarks/choosing/page.py

reads every `benchmarks/results/choosing/*.json`, and those of `before-shrink/`, which ran before
retraining started from shrunk parameters. Its figures are theirs: nothing is run.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import RESULTS
from tables import DOCS, fill, four, markdown

from autosample_tf.comparison.comparing import AUTOSAMPLE, UNIFORM

Figures = Mapping[str, Any]

PAGE = DOCS / "choosing.md"


def main() -> None:
    """Fills the page's tables."""
    records = records_in(RESULTS / "choosing")
    before = records_in(RESULTS / "choosing" / "before-shrink")
    found = [record["result"] for record in records]
    fill(PAGE, "verdicts", verdicts([each for each in found if each.get("against") is None]))
    fill(PAGE, "named", named([each for each in found if each.get("against")]))
    fill(PAGE, "before", verdicts([record["result"] for record in before]))
    fill(PAGE, "ablations", ablations([r["result"] for r in records if r["variants"]]))
    fill(PAGE, "ran", "\n".join(f"- {ran(record)}" for record in records))
    fill(PAGE, "ran before", "\n".join(f"- {ran(record)}" for record in before))


def records_in(folder: Path) -> list[dict[str, Any]]:
    """What `run.py` wrote there, by name."""
    return [
        json.loads(file.read_text(encoding="utf-8"))
        for file in sorted(folder.glob("*.json"), key=lambda each: each.stem)
    ]


def verdicts(found: list[Mapping[str, Any]]) -> str:
    """AutoSample beside the choices one has without it, a row a pair of data and model."""
    found = [together(list(group)) for _, group in itertools.groupby(found, pair_name)]
    head = ["test NDCG@20", "seeds", "AutoSample", "best in hindsight", "AutoSample - it",
            "picked by validation", "AutoSample - it", "uniform mixture", "AutoSample - it",
            "seconds of exhaustive"]  # fmt: skip
    rows = []
    for each in found:
        metric, people = each["metric"], each["contestants"]
        hindsight = each["choices"]["best in hindsight"]
        picked = each["choices"]["picked by validation"]
        ours = people[AUTOSAMPLE]["test"][metric]
        rows.append(
            [
                pair_name(each),
                str(len(each["seeds"])),
                figure(ours),
                f"{short(hindsight['candidate'])} "
                f"{four(people[hindsight['candidate']]['test'][metric]['mean'])}",
                difference(hindsight),
                ", ".join(dict.fromkeys(short(spec) for spec in picked["candidate"])),
                difference(picked),
                four(people[UNIFORM]["test"][metric]["mean"]),
                difference(each["choices"][UNIFORM]),
                f"{each['cost']['ratio']:.2f}",
            ]
        )
    mean = np.mean([each["choices"]["best in hindsight"]["difference"] for each in found])
    table = markdown(head, rows)
    return f"{table}\n\nMean difference to the best in hindsight: {mean:+.4f}."


def named(found: list[Mapping[str, Any]]) -> str:
    """AutoSample beside the samplers that `--against` named, a row each and pair of data and
    model."""
    rows = []
    for pair, group in itertools.groupby(found, pair_name):
        each = list(group)
        seeds = sum(len(one["seeds"]) for one in each)
        for name in each[0]["against"]:
            its = f"{short(name)} {four(tested(each, name)['mean'])}"
            apart = difference(differing(each, name))
            rows.append([pair, str(seeds), figure(tested(each, AUTOSAMPLE)), its, apart])
    return markdown(["test NDCG@20", "seeds", "AutoSample", "it", "AutoSample - it"], rows)


def tested(found: Iterable[Figures], name: str) -> dict[str, float]:
    """A contestant's test metric in several comparisons together."""
    return pooled(each["contestants"][name]["test"][each["metric"]] for each in found)


def differing(found: Sequence[Figures], name: str) -> dict[str, float]:
    """AutoSample's difference to a contestant in several comparisons together."""
    return pooled_differences(found, lambda each: each["contestants"][name]["against"])


def together(found: Sequence[Figures]) -> dict[str, Any]:
    """Comparisons of one pair with different seeds as one, as far as `verdicts` reads it.

    The first is of all candidates. The best in hindsight is of those that ran with all seeds; what
    ran with some is of these, and the cost of the comparisons of all candidates.
    """
    metric, first = found[0]["metric"], found[0]

    def ran_in(name: str) -> list[Figures]:
        return [each for each in found if name in each["contestants"]]

    alone = [name for name in first["contestants"] if name not in {AUTOSAMPLE, *variants(first)}]
    best = max((name for name in alone if len(ran_in(name)) == len(found)),
               key=lambda name: tested(found, name)["mean"])  # fmt: skip
    chosen = [each["choices"]["picked by validation"] for each in found]
    costs = [each["cost"] for each in found if each.get("against") is None]
    ours, theirs = (sum(cost[whose] for cost in costs) for whose in ("autosample", "exhaustive"))
    return {
        **{name: first[name] for name in ("dataset", "model", "metric")},
        "seeds": [seed for each in found for seed in each["seeds"]],
        "contestants": {
            name: {"test": {metric: tested(ran_in(name), name)}}
            for name in (AUTOSAMPLE, UNIFORM, best)
        },
        "choices": {
            "best in hindsight": {"candidate": best, **differing(found, best)},
            "picked by validation": {
                "candidate": [name for each in chosen for name in each["candidate"]],
                **pooled_differences(found, lambda each: each["choices"]["picked by validation"]),
            },
            UNIFORM: differing(ran_in(UNIFORM), UNIFORM),
        },
        "cost": {"ratio": ours / theirs},
    }


def pooled_differences(
    found: Sequence[Figures], of: Callable[[Figures], Figures]
) -> dict[str, float]:
    """AutoSample's difference to what `of` takes of a comparison, of several together."""
    parts = []
    for each in found:
        count = each["contestants"][AUTOSAMPLE]["test"][each["metric"]]["count"]
        parts.append({**of(each), "mean": of(each)["difference"], "count": count})
    both = pooled(parts)
    return {"difference": both["mean"], "standard_error": both["standard_error"]}


def pooled(parts: Iterable[Figures]) -> dict[str, float]:
    """The `mean` of several samples' values together and its `standard_error`, of those of each
    sample, and its `count`."""
    seen = list(parts)
    means, errors, counts = (
        np.array([part[name] for part in seen]) for name in ("mean", "standard_error", "count")
    )
    count = counts.sum()
    mean = means @ counts / count
    squares = errors**2 @ (counts * (counts - 1)) + (means - mean) ** 2 @ counts
    return {"mean": mean, "standard_error": np.sqrt(squares / (count - 1) / count)}


def ablations(found: list[Mapping[str, Any]]) -> str:
    """Every variant's test metric less the default's, and how many epochs it took."""
    names = list(dict.fromkeys(name for each in found for name in variants(each)))
    rows = []
    for name in names:
        cells = []
        for each in found:
            own = each["contestants"].get(name)
            if own is None:
                cells.append("")
                continue
            against = own["against"]
            cells.append(
                f"{-against['difference']:+.4f} ± {against['standard_error']:.4f}, "
                f"{own['epochs']:.0f} epochs"
            )
        rows.append([name, *cells])
    heads = (
        f"{pair_name(each)}, {each['contestants'][AUTOSAMPLE]['epochs']:.0f} epochs"
        for each in found
    )
    return markdown(["it - AutoSample", *heads], rows)


def variants(each: Mapping[str, Any]) -> list[str]:
    """The contestants that are neither candidates nor AutoSample, the mixture among them."""
    alone = {spec for run in each["contestants"][UNIFORM]["weights"] for spec in run}
    return [name for name in each["contestants"] if name not in alone and name != AUTOSAMPLE]


def ran(record: Mapping[str, Any]) -> str:
    """One line on what was run, where, for how long."""
    result, machine = record["result"], record["machine"]
    seconds = sum(own["seconds"] for own in result["contestants"].values()) * len(result["seeds"])
    load = machine["load_before"]
    before = "" if load is None else f", load before {load:.1f}"
    return (
        f"`{record['command']}`: {len(result['seeds'])} seeds, {seconds / 60:,.0f} minutes of "
        f"training and validation on {machine['cpus']} cores of {machine['cpu']}{before}"
        f"{record.get('note', '')}"
    )


def pair_name(each: Mapping[str, Any]) -> str:
    return f"{each['dataset']}, {each['model']}"


def short(spec: str) -> str:
    """A sampler's name, with its pool where it says more than the name."""
    name, _, options = spec.partition(":")
    return f"{name}:{options}" if name == "dns" else name


def figure(mean: Mapping[str, float]) -> str:
    return f"{four(mean['mean'])} ± {four(mean['standard_error'])}"


def difference(against: Mapping[str, float]) -> str:
    return f"{against['difference']:+.4f} ± {against['standard_error']:.4f}"


if __name__ == "__main__":
    main()
