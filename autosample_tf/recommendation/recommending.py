"""Recommendations of a finished run: for whom, of which items, without which.

Users are ranked and written a block at a time, so memory does not grow with them. Scores
keep all of their float32 digits: metrics computed from a file are the run's own.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from autosample_tf.errors import expected
from autosample_tf.evaluation import Ranker, Rankings, check_cutoffs
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.recommendation.files import Names, check_extension, write_in_parts, write_lines
from autosample_tf.recommendation.requested_ids import (
    Ids,
    has_pairs,
    places_of_ids,
    places_of_pairs,
)
from autosample_tf.representations import Representations
from autosample_tf.training import Source, TrainedRun, load_run

_USERS_PER_BLOCK = 4096
Output = str | os.PathLike[str] | TextIO | None


@dataclasses.dataclass(frozen=True)
class Recommended:
    """What `recommend` did.

    Attributes:
      users: how many users were ranked for.
      items: how many items they got together; fewer than users * top_k where some have seen
        nearly the whole catalogue.
      unknown: how many of the ids asked for the run does not know.
      lines: for each user `{"user", "items", "scores"}`, best first, where there is no
        output; else None.
      unknown_items: how many ids of candidates, and ids or pairs to exclude, it does not know.
    """

    users: int
    items: int
    unknown: int
    lines: list[dict[str, Any]] | None = None
    unknown_items: int = 0


@dataclasses.dataclass(frozen=True, eq=False)
class _Shelf:
    """What there is to choose from, its items numbered from 0.

    Attributes:
      items: [n] int64, ascending: their places in the run's catalogue.
      representations: of all users and these items.
      left_out: the pairs that are not to be ranked.
      popularity: [n], how many users an item has.
      unknown: how many ids or pairs of the request the run does not know.
    """

    items: np.ndarray
    representations: Representations
    left_out: Interactions
    popularity: np.ndarray
    unknown: int


def recommend(
    run_dir: str | Path,
    *,
    output: Output = None,
    users: Ids | None = None,
    top_k: int = 20,
    exclude: Ids | None = None,
    candidates: Ids | None = None,
    leave_out_test: bool = False,
    source: str | Path | Source | Dataset | None = None,
) -> Recommended:
    """Ranks the catalogue for users of a finished run, seen items left out.

    Seen is train and validation, of a run with `select_on_test` the test pairs too: its
    test metrics cannot be had from these rankings. A user of whom
    no pair was trained on gets the most popular items.

    A file is written in parts, so that the same call goes on where one was stopped:
    see `recommendation.files`.

    Args:
      run_dir: the run's folder.
      output: a .jsonl, .csv or .parquet file (JSON lines are one user a line, the others
        one item a row: user, item, rank from 1, score); a text stream, for JSON lines; or
        None: the result has the lines, in memory.
      users: original ids, each ranked for once, in this order; or the path of a file with
        one a line; or None: all users, in the catalogue's order.
      top_k: the most items a user gets, at least 1.
      exclude: more to leave out: pairs of users and items in a file as this function writes, or
        as a dataset's; or ids of items that nobody gets, in any other file one a line.
      candidates: the ids of the items to rank, or a file with one a line; None: all.
      leave_out_test: whether what users have in the test split is left out too, as what is shown
        to them needs; metrics of such rankings are none.
      source: the dataset, if it is not where the run found it.

    Raises:
      InputError: if the run is not finished, top_k is out of range, the output's extension is
        not known, none of the users or candidates is, or no item is left to rank.
    """
    path, stream = None, None
    if isinstance(output, str | os.PathLike):
        path = Path(output)
        check_extension(path)  # before anything is loaded
    else:
        stream = output
    trained = load_run(run_dir, leave_out_test=leave_out_test, source=source)
    data = trained.data
    check_cutoffs([min(top_k, data.num_items)], data.num_items)
    places, num_unknown = np.arange(data.num_users), 0
    if users is not None:
        places, num_unknown = places_of_ids(users, data.user_ids, "user")
    shelf = _shelf(trained, candidates, exclude)
    top_k = min(top_k, len(shelf.items))
    ranker = Ranker(shelf.representations, shelf.left_out, top_k, trained.learned, shelf.popularity)
    names = Names(data.user_ids, data.item_ids[shelf.items])

    def rank(block: int) -> Rankings:
        first = block * _USERS_PER_BLOCK
        return ranker.rank(places[first : first + _USERS_PER_BLOCK])

    num_blocks = -(-len(places) // _USERS_PER_BLOCK)
    lines = None
    if path is not None:
        write_in_parts(path, names, num_blocks, rank, _request(trained, shelf, places, top_k))
    elif stream is not None:
        for block in range(num_blocks):
            write_lines(stream, names, rank(block))
    else:
        lines = [line for block in range(num_blocks) for line in names.lines(rank(block))]
    num_items = int(np.minimum(top_k, len(shelf.items) - shelf.left_out.degrees[places]).sum())
    return Recommended(len(places), num_items, num_unknown, lines, shelf.unknown)


def _shelf(trained: TrainedRun, candidates: Ids | None, exclude: Ids | None) -> _Shelf:
    data, left_out = trained.data, trained.seen
    items, num_unknown = np.arange(data.num_items), 0
    if candidates is not None:
        items, num_unknown = places_of_ids(candidates, data.item_ids, "item")
    if isinstance(exclude, str | os.PathLike) and has_pairs(Path(exclude)):
        *pairs, unknown = places_of_pairs(Path(exclude), data.user_ids, data.item_ids)
        left_out = left_out.union(
            Interactions.from_pairs(*pairs, num_users=data.num_users, num_items=data.num_items)
        )
        num_unknown += unknown
    elif exclude is not None:
        excluded, unknown = places_of_ids(exclude, data.item_ids, "item", at_least_one=False)
        items = items[~np.isin(items, excluded)]
        num_unknown += unknown
    if not len(items):
        raise expected(
            "an item to rank",
            received="candidates that are all excluded",
            remedy="Exclude fewer, or name other candidates.",
        )
    items = np.sort(items)
    return _Shelf(
        items=items,
        representations=Representations.of(trained.model).of_items(items),
        left_out=_of_items(left_out, items),
        popularity=trained.seen.popularity[items],
        unknown=num_unknown,
    )


def _of_items(pairs: Interactions, items: np.ndarray) -> Interactions:
    """The pairs of some items [n], ascending, which are then numbered from 0."""
    if len(items) == pairs.num_items:
        return pairs
    places = np.full(pairs.num_items, -1, np.int32)
    places[items] = np.arange(len(items))
    kept = pairs.select(places[pairs.items] >= 0)
    return Interactions(kept.offsets, places[kept.items], len(items))


def _request(trained: TrainedRun, shelf: _Shelf, places: np.ndarray, k: int) -> dict[str, Any]:
    """All that a file depends on, large things by their SHA-256."""
    tables = {
        "user_vectors": shelf.representations.user_vectors.numpy(),
        "item_vectors": shelf.representations.item_vectors.numpy(),
        "users": places,
        "items": shelf.items,
        "left_out_offsets": shelf.left_out.offsets,
        "left_out_items": shelf.left_out.items,
    }
    digests = {
        name: hashlib.sha256(np.ascontiguousarray(table).data).hexdigest()
        for name, table in tables.items()
    }
    data = trained.run.config()["dataset"]["sha256"]
    return {"dataset": data, "k": k, "users_per_block": _USERS_PER_BLOCK, **digests}
