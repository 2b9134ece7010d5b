"""Which rows of feedback count: by rating, by time, and by how many others there are."""

from __future__ import annotations

import numpy as np

from autosample_tf.errors import NoRowsError, expected
from autosample_tf.reading.events import Events
from autosample_tf.reading.instants import format_instant, parse_instant
from autosample_tf.reading.table_options import TableOptions


def window(events: Events, since: str | None, until: str | None) -> np.ndarray:
    """[num_rows] bool: whether a row is from `since` on and before `until`.

    Raises:
      InputError: if a moment cannot be read.
      NoRowsError: if no row is between them.
    """
    first = -np.inf if since is None else parse_instant(since, "since")
    last = np.inf if until is None else parse_instant(until, "until")
    within = (events.times >= first) & (events.times < last)
    if not within.any():
        span = f"{format_instant(events.times.min())} to {format_instant(events.times.max())}"
        raise NoRowsError(
            expected(
                f"rows from {since or 'the first'} on and before {until or 'the end'}",
                received=f"none: they are from {span}",
                remedy="Widen --since and --until.",
            )
        )
    return within


def rated(events: Events, least: float) -> np.ndarray:
    """[num_rows] bool: whether a row is rated `least` or higher.

    Raises:
      NoRowsError: if none is.
    """
    high = events.ratings >= least
    if not high.any():
        raise NoRowsError(
            expected(
                f"rows rated {least:g} or higher",
                received=f"ratings of at most {events.ratings.max():g}",
                remedy="Lower --min-rating, or name another column with --rating-column.",
            )
        )
    return high


def core(users: np.ndarray, items: np.ndarray, fewest: int) -> np.ndarray:
    """[num_pairs] bool: the pairs of the k-core, where all have `fewest` pairs or more.

    Users and items with fewer are left out, over and over until there are none (Seidman,
    "Network structure and minimum degree", Social Networks, 1983); what is left does not
    depend on the order.

    Args:
      users: [num_pairs] integers, of distinct pairs.
      items: [num_pairs] integers.
      fewest: the k of the k-core.
    """
    left = np.arange(len(users))
    while True:
        kept = np.ones(len(left), bool)
        for ends in (users, items):
            degrees = np.bincount(ends[left])
            kept &= degrees[ends[left]] >= fewest
        if kept.all():
            break
        left = left[kept]
    is_left = np.zeros(len(users), bool)
    is_left[left] = True
    return is_left


def filtered(events: Events, options: TableOptions) -> tuple[Events, dict[str, int]]:
    """The rows in the window of time and rated high enough, and how many were left out why."""
    notes = {}
    if options.since is not None or options.until is not None:
        within = window(events, options.since, options.until)
        notes["rows_outside_window"] = int(np.sum(~within))
        events = events.select(within)
    if options.min_rating is not None:
        high = rated(events, options.min_rating)
        notes["rows_below_min_rating"] = int(np.sum(~high))
        events = events.select(high)
    return events, notes
