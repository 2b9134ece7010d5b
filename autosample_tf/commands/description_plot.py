"""A plot of how many pairs users and items have: both are uneven, items most of all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from autosample_tf.commands.description import degrees
from autosample_tf.errors import expected
from autosample_tf.interactions import Dataset


def plot_degrees(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Draws the share of users, and of items, that have at least so many pairs.

    Both axes are logarithmic: a straight line is a power law.

    Args:
      dataset: whose pairs, of all splits.
      path: a .png, .svg or .pdf file.

    Raises:
      InputError: for another kind of file.
    """
    from matplotlib.figure import Figure  # without pyplot: no display, no state

    path = Path(path)
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise expected(
            "a .png, .svg or .pdf file to plot to", received=path.name, remedy="Rename it."
        )
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot(
        xscale="log", yscale="log", title=dataset.name, xlabel="pairs, at least", ylabel="share"
    )
    for kind, counts in zip(("users", "items"), degrees(dataset), strict=True):
        at_least, shares = survival(counts)
        axes.plot(at_least, shares, drawstyle="steps-pre", label=f"{len(counts):,} {kind}")
    axes.legend()
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def survival(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different counts from 1 on, ascending, and the share of all that have as many."""
    values, numbers = np.unique(counts[counts > 0], return_counts=True)
    return values, np.cumsum(numbers[::-1])[::-1] / len(counts)
