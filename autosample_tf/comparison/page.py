"""A comparison to read: Markdown, and a plot of what everybody reached at which cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autosample_tf.comparison.comparing import AUTOSAMPLE


def markdown(found: Mapping[str, Any]) -> str:
    """The table and the verdicts of what `comparison.compare` returns."""
    metric = found["metric"]
    second = next(name for name in found["contestants"][AUTOSAMPLE]["test"] if name != metric)
    heads = ["", f"valid {metric}", f"test {metric}", f"test {second}", "seconds", "epochs",
             "autosample - it", "p"]  # fmt: skip
    lines = [
        f"# {found['model']} on {found['dataset']}",
        "",
        f"Seeds {', '.join(map(str, found['seeds']))}. Every model is trained for at most "
        f"{found['most_epochs']} epochs, and until validation {metric} has not risen for "
        f"{found['patience']}; before that, or with a sixth of them left, it goes back to its best "
        f"epoch, and on at a fifth of the learning rate, {found['rate_decays']} x. ± is a standard "
        "error, users pooled over seeds; seconds and epochs are a seed's, those of a trial among "
        "them. "
        f"`autosample - it` is the paired difference in test {metric}, and p of its t-test over "
        "users, adjusted by Benjamini and Hochberg for all that are told here.",
        "",
        f"| {' | '.join(heads)} |",
        f"| --- {'| --: ' * (len(heads) - 1)}|",
        *(_row(name, each, metric, second) for name, each in _ranked(found)),
        "",
        *(_verdict(name, each) for name, each in found["choices"].items()),
        _cost(found),
        *(f"- {name} diverged with seed {each['seed']}, and is left out: {each['error']}"
          for name, each in found["diverged"].items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Test metric and standard error of everybody, and their seconds, best first."""
    from matplotlib.figure import Figure

    ranked = _ranked(found)
    names = [name for name, _ in ranked]
    metric = found["metric"]
    tests = [each["test"][metric] for _, each in ranked]
    colours = ["tab:orange" if name == AUTOSAMPLE else "tab:blue" for name in names]
    figure = Figure(figsize=(9, 1 + 0.35 * len(names)), layout="constrained")
    quality, cost = figure.subplots(1, 2, sharey=True)
    for place, (test, colour) in enumerate(zip(tests, colours, strict=True)):
        quality.errorbar(
            test["mean"], place, xerr=test["standard_error"], fmt="o", capsize=3, color=colour
        )
    quality.set(yticks=range(len(names)), yticklabels=names, xlabel=f"test {metric}")
    quality.invert_yaxis()
    cost.barh(range(len(names)), [each["seconds"] for _, each in ranked], color=colours)
    cost.set(xlabel="seconds of training and validation")
    figure.suptitle(f"{found['model']} on {found['dataset']}")
    figure.savefig(path)


def _ranked(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Everybody, the best on test first."""
    everybody, metric = found["contestants"], found["metric"]
    return sorted(everybody.items(), key=lambda each: -each[1]["test"][metric]["mean"])


def _row(name: str, each: Mapping[str, Any], metric: str, second: str) -> str:
    against = each.get("against")
    cells = [
        f"**{name}**" if name == AUTOSAMPLE else name,
        _with_error(each["valid"][metric]),
        _with_error(each["test"][metric]),
        _with_error(each["test"][second]),
        f"{each['seconds']:,.0f}",
        f"{each['epochs']:.0f}",
        _difference(against) if against else "",
        f"{against['p']:.2g}" if against else "",
    ]
    return f"| {' | '.join(cells)} |"


def _with_error(figure: Mapping[str, float | None]) -> str:
    return f"{figure['mean']:.4f}{_error(figure)}"


def _difference(against: Mapping[str, float | None]) -> str:
    return f"{against['difference']:+.4f}{_error(against)}"


def _error(figure: Mapping[str, float | None]) -> str:
    """Nothing of a single user's."""
    error = figure["standard_error"]
    return "" if error is None else f" ± {error:.4f}"


def _verdict(choice: str, each: Mapping[str, Any]) -> str:
    candidate = each.get("candidate")
    named = ", ".join(candidate) if isinstance(candidate, list) else candidate
    return f"- AutoSample - {choice}{f' ({named})' if named else ''}: {_difference(each)}"


def _cost(found: Mapping[str, Any]) -> str:
    cost, against = found["cost"], found["against"]
    alone = "all candidates" if against is None else "the samplers held against it"
    return (
        f"- AutoSample took {cost['autosample']:,.0f} s, {alone} one by one "
        f"{cost['exhaustive']:,.0f} s: {cost['ratio']:.2f} of it."
    )
