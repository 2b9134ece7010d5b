"""What a dataset holds, in figures: how many, how dense, how uneven, how cold, from when.

Degrees are of users and of items over all splits; what is cold is cold to whoever trained on
train and validation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from autosample_tf.interactions import Dataset
from autosample_tf.reading.instants import format_instant

_QUANTILES = {"min": 0.0, "p10": 0.1, "median": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


def describe(dataset: Dataset) -> dict[str, Any]:
    """A dataset's figures, as JSON has them.

    Returns:
      The counts, and `density`, the share of all pairs that are train pairs;
      `items_per_user` and `users_per_item`, the mean, quantiles (of those who have the least
      to the most) and Gini coefficient of the degrees; `cold_items` and `cold_test_pairs`,
      the share of the items, and of the test pairs, whose item is in neither train nor
      validation; `cold_test_users`, the share of the users tested on who have no pair there;
      `first_time` and `last_time`, where the data has times; `sha256`.
    """
    users, items = degrees(dataset)
    seen, test = dataset.seen, dataset.test
    tested = test.degrees > 0
    return {
        **dataset.counts(),
        "density": dataset.train.num_pairs / dataset.num_users / dataset.num_items,
        "items_per_user": distribution(users),
        "users_per_item": distribution(items),
        "cold_items": float(np.mean(seen.popularity == 0)),
        "cold_test_pairs": float(test.popularity[seen.popularity == 0].sum() / test.num_pairs),
        "cold_test_users": float(np.mean(seen.degrees[tested] == 0)),
        **_times(dataset),
        "sha256": dataset.checksum(),
    }


def degrees(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """[num_users] and [num_items]: how many pairs each has in all splits together."""
    splits = list(dataset.splits.values())
    users = np.sum([split.degrees for split in splits], axis=0)
    items = np.sum([split.popularity for split in splits], axis=0)
    return users, items


def distribution(counts: np.ndarray) -> dict[str, float]:
    """The mean, quantiles and Gini coefficient of non-negative counts.

    A quantile is the least count that its share of the counts does not exceed. The Gini
    coefficient is 0 where all are equal, and near 1 where few have everything.
    """
    ordered = np.sort(counts)
    last = len(ordered) - 1
    quantiles = {
        name: int(ordered[max(0, int(np.ceil(share * len(ordered))) - 1)])
        for name, share in _QUANTILES.items()
    }
    ranks = np.arange(1, last + 2)
    gini = 2 * np.sum(ranks * ordered) / ((last + 1) * ordered.sum()) - (last + 2) / (last + 1)
    return {"mean": float(ordered.mean()), **quantiles, "gini": float(gini)}


def as_lines(figures: dict[str, Any]) -> list[str]:
    """The figures of `describe` as a person reads them, one a line."""
    return [f"  {name.replace('_', ' '):<28} {_shown(value)}" for name, value in figures.items()]


def _times(dataset: Dataset) -> dict[str, str]:
    if dataset.time_span is None:
        return {}
    first, last = map(format_instant, dataset.time_span)
    return {"first_time": first, "last_time": last}


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(part)}" for name, part in value.items())
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
