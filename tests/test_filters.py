"""Which rows count: windows of time, ratings, the k-core, against oracles in plain Python."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from feedback import columns_of, rows_of

from autosample_tf.errors import InputError
from autosample_tf.interactions import Dataset
from autosample_tf.reading.filters import core
from autosample_tf.reading.formats import read_object
from autosample_tf.reading.instants import format_instant, parse_instant
from autosample_tf.reading.table_options import TableOptions

ROWS = rows_of(30, 20)
FIRST = min(row[3] for row in ROWS)


def read(rows=ROWS, **options) -> Dataset:
    return read_object(columns_of(rows), TableOptions(**options))


def pairs(dataset: Dataset) -> set[tuple[str, str]]:
    return {
        (dataset.user_ids[user], dataset.item_ids[item])
        for rows in dataset.splits.values()
        for user, item in zip(rows.users, rows.items, strict=True)
    }


def core_oracle(edges: set[tuple[str, str]], fewest: int) -> set[tuple[str, str]]:
    while True:
        users, items = Counter(user for user, _ in edges), Counter(item for _, item in edges)
        kept = {(u, i) for u, i in edges if users[u] >= fewest and items[i] >= fewest}
        if kept == edges:
            return kept
        edges = kept


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fewest", [1, 2, 3, 5, 9])
def test_the_core_agrees_with_the_oracle(fewest: int, seed: int) -> None:
    drawn = np.random.default_rng(seed)
    # Degrees from 1 up, so that several rounds are needed.
    users, items = (drawn.zipf(1.6, 400) % 60 for _ in range(2))
    edges = np.unique(np.stack([users, items], 1), axis=0)
    left = core(edges[:, 0], edges[:, 1], fewest)
    assert set(map(tuple, edges[left])) == core_oracle(set(map(tuple, edges)), fewest)


def test_a_chain_falls_apart_link_by_link() -> None:
    # User n has the items n and n + 1: only the ends have too few, then the next ones, ….
    users = np.repeat(np.arange(200), 2)
    items = users + np.tile([0, 1], 200)
    assert not core(users, items, 2).any()
    closed = np.append(items[:-1], 0)
    assert core(users, closed, 2).all()


@pytest.mark.parametrize("fewest", [3, 5, 8])
def test_a_core_dataset_has_no_one_with_fewer(fewest: int) -> None:
    rows = [row for row in ROWS if row[2] > 0]
    dataset = read(rows, k_core=fewest)
    assert pairs(dataset) == core_oracle({row[:2] for row in rows}, fewest)
    everything = dataset.train.union(dataset.test)
    assert everything.degrees.min() >= fewest
    assert everything.popularity.min() >= fewest
    lost = dataset.notes["users_outside_core"] + dataset.notes["items_outside_core"]
    all_ids = len({row[0] for row in rows}) + len({row[1] for row in rows})
    assert dataset.num_users + dataset.num_items + lost == all_ids


def test_the_core_counts_distinct_positives() -> None:
    rows = [(user, item, 5.0, 1) for user in "abc" for item in "xyz"]
    rows += [("d", "x", 5.0, 1)] * 3  # one pair
    rows += [("e", item, 1.0, 1) for item in "xyz"]  # no positives
    rows += [("a", "w", 1.0, 1), ("b", "x", 1.0, 1)]
    dataset = read(rows, k_core=3, label_column="rating", positive_from=4)
    assert dataset.user_ids.tolist() == ["a", "b", "c"]
    assert dataset.item_ids.tolist() == ["x", "y", "z"]
    assert dataset.given.num_pairs == 1  # of b and x


def test_rows_rated_below_are_as_if_they_were_not_there() -> None:
    dataset = read(min_rating=3)
    assert pairs(dataset) == {row[:2] for row in ROWS if row[2] >= 3}
    assert dataset.notes["rows_below_min_rating"] == sum(row[2] < 3 for row in ROWS)
    assert dataset.checksum() == read([row for row in ROWS if row[2] >= 3]).checksum()


@pytest.mark.parametrize(("since", "until"), [(20, None), (None, 60), (20, 60), (0, 1000)], ids=str)
@pytest.mark.parametrize("write", [str, format_instant], ids=["Unix", "ISO"])
def test_a_window_has_its_first_moment_and_not_its_last(write, since, until) -> None:
    dataset = read(
        since=None if since is None else write(FIRST + since),
        until=None if until is None else write(FIRST + until),
    )
    within = {
        (user, item)
        for user, item, _, time in ROWS
        if FIRST + (since or 0) <= time < FIRST + (until or 1000)
    }
    assert pairs(dataset) == within


def test_filters_come_before_the_core_and_the_split() -> None:
    options = {"since": str(FIRST + 10), "min_rating": 2, "k_core": 4, "split_by": "leave-last"}
    rows = [row for row in ROWS if row[3] >= FIRST + 10 and row[2] >= 2]
    left = core_oracle({row[:2] for row in rows}, 4)
    by_hand = read([row for row in rows if row[:2] in left], split_by="leave-last")
    assert read(**options).checksum() == by_hand.checksum()


def test_a_pair_has_the_time_of_its_first_row() -> None:
    rows = [("u", item, 1.0, time) for time, item in enumerate("abcde", start=1)]
    rows += [("u", "a", 1.0, 99), ("u", "a", 1.0, 50)]
    dataset = read(rows, split_by="leave-last")
    assert dataset.item_ids[dataset.test.items].tolist() == ["e"]
    assert dataset.item_ids[dataset.valid.items].tolist() == ["d"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-02", 86_400),
        ("1970-01-01T00:00:10Z", 10),
        ("1970-01-01 00:00:10", 10),
        ("1970-01-01T01:00:10+01:00", 10),
        ("1600000000", 1_600_000_000),
        (" 1.5e9 ", 1_500_000_000),
        ("1600000000123", 1_600_000_000.123),
        (12.5, 12.5),
    ],
)
def test_moments_as_people_write_them(text: str | float, seconds: float) -> None:
    assert parse_instant(text, "since") == seconds


@pytest.mark.parametrize("text", ["2015", "20150131", 2015, "20150131120000"])
def test_a_date_of_digits_alone_is_refused(text: str | int) -> None:
    """As Unix seconds it would be a moment of 1970, and leave nothing out."""
    with pytest.raises(InputError, match="Write for example 2020-01-31"):
        parse_instant(text, "since")


def test_moments_are_written_so_that_they_read_back() -> None:
    for seconds in (0, 1_600_000_000, -86_400):
        assert parse_instant(format_instant(seconds), "since") == seconds
    assert format_instant(1e30) == "1000000000000000019884624838656"
