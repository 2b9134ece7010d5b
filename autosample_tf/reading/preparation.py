"""Rows of feedback to a dataset: filters, labels, the k-core, the split.

In this order: rows outside the window of time and below the least rating are left out;
labels part positives from given negatives; the k-core of the positives is taken; its pairs
are split. What rows are merged into a pair has the time of the first of them.
"""

from __future__ import annotations

import logging

import numpy as np

from autosample_tf.errors import expected
from autosample_tf.interactions import SPLITS, Dataset, Interactions
from autosample_tf.reading.events import Events
from autosample_tf.reading.filters import core, filtered
from autosample_tf.reading.split_rules import Rule, parse_rule
from autosample_tf.reading.table_options import TableOptions
from autosample_tf.splits import Splits, without_seen

log = logging.getLogger(__name__)
_NO_ID = ("NULL", "null", "\\N", "NaN", "nan", "None", "NA", "N/A", "<NA>")
_POSITIVE_FROM = 1.0  # of clicks, where 0 is an impression


def prepare(events: Events, options: TableOptions, *, name: str, seed: int) -> Dataset:
    """Makes a dataset of rows.

    The catalogue is every id of the rows that count, those that only negatives have among
    them (an item that was shown can be ranked). Rows that repeat a pair are merged and
    counted in the dataset's notes.

    A pair with labels on both sides is a positive, and is counted in the notes. It stays
    among the given negatives too: training masks the positives that it trains on, and to
    take out those that are held out would tell training which ones they are. Of negatives
    themselves only those in the train split are given, or where pairs are split by time those from
    before the pairs that are held out; the others are counted in the notes.

    Rows that come in splits keep them; pairs that an earlier split has (in the order train,
    valid, test) are dropped from a later one and counted.

    Args:
      events: the rows.
      options: what counts, and how pairs are split.
      name: what to call the dataset.
      seed: chooses the pairs to test on, where the split leaves a choice.

    Raises:
      InputError: if the options leave nothing to train or to test on.
    """
    events, notes = filtered(events, options)
    positive = _positive(events, options, name)
    if options.k_core is not None:
        events, positive, core_notes = _k_core(events, positive, options.k_core)
        notes |= core_notes
    pairs, negatives = _pairs(events, positive), _pairs(events, ~positive)
    splits, in_training, split_notes = _parted(events, positive, pairs, options, seed)
    notes |= split_notes
    num_counted = pairs.num_pairs + negatives.num_pairs + notes.get("held_out_pairs_in_train", 0)
    notes |= {
        "duplicate_pairs": events.num_rows - num_counted,
        "pairs_of_both_labels": int(pairs.contains(negatives.users, negatives.items).sum()),
    }
    given = negatives if in_training.all() else _pairs(events, ~positive & in_training)
    if num_held_out := negatives.num_pairs - given.num_pairs:
        notes["given_negatives_held_out"] = num_held_out
    if count := ratings_up_to_0(events, options):
        notes["ratings_up_to_0"] = count
    return Dataset(
        name=name,
        **splits,
        user_ids=events.user_ids,
        item_ids=events.item_ids,
        given=given if given.num_pairs else None,
        notes=notes,
        time_span=time_span(events),
    )


def warn(dataset: Dataset, options: TableOptions, *, splits_given: bool) -> None:
    """Logs what is probably not meant: a split that ignores time, disliked positives."""
    rule = options.split_by or "random"
    if (
        not splits_given
        and not parse_rule(rule).needs_times
        and dataset.time_span is not None
        and dataset.time_span[0] < dataset.time_span[1]
    ):
        log.warning(
            "%s has times, which the split %s ignores: training learns from what came after the "
            "test pairs. --split-by leave-last or --split-by time goes by time.",
            dataset.name,
            rule,
        )
    if long_rows := dataset.notes.get("rows_of_several_lines"):
        log.warning(
            "%d rows of %s are of several lines, within quotes. If a quote was not meant to open "
            "a value, take it out: it hides the rows up to the next.",
            long_rows,
            dataset.name,
        )
    if count := dataset.notes.get("ratings_up_to_0"):
        log.warning(
            "%d rows of %s have a rating of 0 or less and count as positives all the same. "
            "--min-rating leaves rows out, --label-column makes them given negatives.",
            count,
            dataset.name,
        )
    for role, ids in (("user", dataset.user_ids), ("item", dataset.item_ids)):
        if words := [word for word in _NO_ID if (ids == word).any()]:
            log.warning(
                "%s has one %s called %s, which is what others write where an id is missing. If it "
                "is none, take its rows out.",
                dataset.name,
                role,
                " and one ".join(words),
            )


def _positive(events: Events, options: TableOptions, name: str) -> np.ndarray:
    """[num_rows] bool: whether a row is a positive, as one at least is."""
    if events.labels is None:
        return np.ones(events.num_rows, bool)
    least = _POSITIVE_FROM if options.positive_from is None else options.positive_from
    positive = events.labels >= least
    if not positive.any():
        raise expected(
            f"a label of at least {least:g}, a positive's, in column "
            f"{options.label_column!r} of {name}",
            received=f"at most {events.labels.max():g}",
            remedy="Lower --positive-from, or name another column with --label-column.",
        )
    return positive


def _parted(
    events: Events, positive: np.ndarray, pairs: Interactions, options: TableOptions, seed: int
) -> tuple[Splits, np.ndarray, dict[str, int]]:
    """The splits of the pairs, as they come or by the rule; which rows [num_rows] bool training
    may know of; and what is noted."""
    if events.splits is not None:
        splits, repeated = _given_splits(events, positive)
        in_training = events.splits == SPLITS.index("train")
        return splits, in_training, {"held_out_pairs_in_train": repeated}
    rule = parse_rule(options.split_by)
    times = _first_times(events, positive) if rule.needs_times else None
    splits = rule.split(pairs, times, seed=seed)
    return splits, _before_held_out(events, pairs, times, splits["train"], rule), {}


def _k_core(
    events: Events, positive: np.ndarray, fewest: int
) -> tuple[Events, np.ndarray, dict[str, int]]:
    """The rows over users and items of the positives' k-core, and how many those lost."""
    pairs = _pairs(events, positive)
    is_left = core(pairs.users, pairs.items, fewest)
    if not is_left.any():
        raise expected(
            f"users and items with {fewest} positives each among one another",
            received=f"none among {events.num_rows} rows",
            remedy="Lower --k-core.",
        )
    users, items = np.zeros(pairs.num_users, bool), np.zeros(pairs.num_items, bool)
    users[pairs.users[is_left]] = items[pairs.items[is_left]] = True
    rows = users[events.users] & items[events.items]
    notes = {
        "users_outside_core": int(np.sum(~users)),
        "items_outside_core": int(np.sum(~items)),
    }
    return events.select(rows), positive[rows], notes


def _given_splits(events: Events, positive: np.ndarray) -> tuple[Splits, int]:
    """The splits that rows came in, and how many held-out pairs an earlier one had."""
    merged = {
        split: _pairs(events, positive & (events.splits == at)) for at, split in enumerate(SPLITS)
    }
    splits = without_seen({name: pairs for name, pairs in merged.items() if pairs.num_pairs})
    lost = sum(merged[name].num_pairs - splits[name].num_pairs for name in splits)
    if missing := [name for name in ("train", "test") if name not in splits]:
        raise expected(
            "positives in train and in test",
            received=f"none in {' and '.join(missing)}",
            remedy="Give splits with rows that count.",
        )
    if "valid" in splits and not splits["valid"].num_pairs:
        raise expected(
            "validation pairs outside train",
            received="none",
            remedy="Leave the validation file out to have validation carved from train.",
        )
    return splits, lost


def _before_held_out(
    events: Events,
    pairs: Interactions,
    times: np.ndarray | None,
    train: Interactions,
    rule: Rule,
) -> np.ndarray:
    """[num_rows] bool: whether a row is from before the first pair that is held out, its user's
    where each user's pairs are split by themselves; all are of a rule without times [num_pairs]."""
    if times is None:
        return np.ones(events.num_rows, bool)
    held_out = ~train.contains(pairs.users, pairs.items)
    ends = np.full(pairs.num_users, np.inf)
    np.minimum.at(ends, pairs.users[held_out], times[held_out])
    if rule.fewest is None:
        ends[:] = ends.min()
    return events.times < ends[events.users]


def _pairs(events: Events, rows: np.ndarray) -> Interactions:
    return Interactions.from_pairs(
        events.users[rows],
        events.items[rows],
        num_users=len(events.user_ids),
        num_items=len(events.item_ids),
    )


def _first_times(events: Events, rows: np.ndarray) -> np.ndarray:
    """[num_pairs] float64: when each pair of the rows was there first, in the pairs' order."""
    keys = events.users[rows].astype(np.int64) * len(events.item_ids) + events.items[rows]
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=-1))
    return np.minimum.reduceat(events.times[rows][order], begins)


def ratings_up_to_0(events: Events, options: TableOptions) -> int:
    """How many rows count though they are rated 0 or less, where no option reads ratings."""
    if events.ratings is None or options.min_rating is not None or options.label_column is not None:
        return 0
    return int(np.sum(events.ratings <= 0))


def time_span(events: Events) -> tuple[float, float] | None:
    """Unix seconds of the first and of the last row; None: no row has a time."""
    if events.times is None or not np.isfinite(events.times).any():
        return None
    return float(np.nanmin(events.times)), float(np.nanmax(events.times))
