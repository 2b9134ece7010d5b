"""Rows of feedback in memory: who, what, and whatever else is known of each."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from autosample_tf.errors import as_pyarrow_says, expected
from autosample_tf.interactions import SPLITS, distinct
from autosample_tf.reading.columns import Part
from autosample_tf.reading.identifiers import Unusable, encode, order_of
from autosample_tf.reading.measures import numbers, numbers_if_any, place_of, times, times_if_any


@dataclasses.dataclass(frozen=True, eq=False)
class Events:
    """Rows of feedback, of which several may be of one pair.

    Attributes:
      users: [num_rows] int32 in [0, num_users).
      items: [num_rows] int32 in [0, num_items).
      user_ids: [num_users] str, each in a row at least, in the order of `identifiers`.
      item_ids: [num_items] str, likewise.
      labels: [num_rows] float64, or None: every row is a positive.
      ratings: [num_rows] float64, NaN where a row has none, or None.
      times: [num_rows] float64 Unix seconds, NaN where a row has none, or None.
      splits: [num_rows] int8, places in `SPLITS`, or None: the rows come in one piece.
    """

    users: np.ndarray
    items: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    labels: np.ndarray | None = None
    ratings: np.ndarray | None = None
    times: np.ndarray | None = None
    splits: np.ndarray | None = None

    @property
    def num_rows(self) -> int:
        return len(self.users)

    def select(self, mask: np.ndarray) -> Events:
        """The rows where `mask` [num_rows] holds, over the users and items that they have."""
        users, user_ids = _renumbered(self.users[mask], self.user_ids)
        items, item_ids = _renumbered(self.items[mask], self.item_ids)
        rest = {
            name: None if getattr(self, name) is None else getattr(self, name)[mask]
            for name in ("labels", "ratings", "times", "splits")
        }
        return Events(users, items, user_ids, item_ids, **rest)


def gather(
    parts: Sequence[Part], needed: Collection[str] = (), splits: Sequence[str] | None = None
) -> Events:
    """The rows of all parts, one part after the other.

    Args:
      parts: at least one; each has a `label` column or none has.
      needed: the roles that every row must have; `rating` and `time` are else taken from
        the rows that have them.
      splits: the split of each part, one of `SPLITS`.

    Raises:
      InputError: at the first row that lacks something, which the message names.
    """
    users, user_ids = _ids(parts, "user")
    items, item_ids = _ids(parts, "item")
    rows = [part.num_rows for part in parts]
    return Events(
        users=users,
        items=items,
        user_ids=user_ids,
        item_ids=item_ids,
        labels=numbers(parts, "label") if "label" in parts[0].columns else None,
        ratings=(numbers if "rating" in needed else numbers_if_any)(parts, "rating"),
        times=(times if "time" in needed else times_if_any)(parts),
        splits=None
        if splits is None
        else np.repeat(np.array([SPLITS.index(split) for split in splits], np.int8), rows),
    )


def _ids(parts: Sequence[Part], role: str) -> tuple[np.ndarray, np.ndarray]:
    """Each row's place among the ids, and the ids."""
    import pyarrow

    try:
        encoded = encode([part.columns[role] for part in parts])
    except pyarrow.ArrowException as error:
        raise expected(
            f"ids that have a text in column {parts[0].names[role]!r} of {parts[0].source}",
            received=as_pyarrow_says(error),
            remedy=f"Name another column with --{role}-column.",
        ) from None
    if isinstance(encoded, Unusable):
        raise expected(
            f"an id in every row of {place_of(parts, encoded.row)}",
            received=encoded.reason,
            remedy="Fill it in or delete the row."
            if encoded.reason == "an empty one"
            else "Correct it or delete the row.",
        )
    ids, codes = encoded
    return codes, ids


def _renumbered(codes: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes among the ids that are left, and those, in the order that they have alone."""
    left = distinct(codes)
    if len(left) < len(ids):
        left = left[order_of(ids[left])]
    places = np.zeros(len(ids), np.int32)
    places[left] = np.arange(len(left), dtype=np.int32)
    return places[codes], ids[left]
