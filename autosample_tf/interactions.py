"""Implicit feedback in memory: which user interacted with which items.

`Interactions` is one frozen CSR matrix of user rows; `Dataset` is the splits of one
catalogue with the original ids. NumPy only: nothing here knows files or TensorFlow. `Pairs` is
what pairs in memory and pairs that are streamed have in common.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from autosample_tf.errors import InputError, expected

SPLITS = ("train", "valid", "test")
_PAIRS_PER_BLOCK = 1 << 20  # so many at once need megabytes besides the pairs, not a multiple


class Pairs(ABC):
    """Distinct (user, item) pairs, in memory or not: what can be told of them all the same.

    Attributes:
      num_items: the size of the catalogue.
    """

    num_items: int

    def __repr__(self) -> str:
        counts = f"{self.num_users:,} users, {self.num_items:,} items, {self.num_pairs:,} pairs"
        return f"<{type(self).__name__}: {counts}>"

    @property
    @abstractmethod
    def num_users(self) -> int:
        """How many users there are, those without a pair among them."""

    @property
    @abstractmethod
    def num_pairs(self) -> int: ...

    @property
    @abstractmethod
    def degrees(self) -> np.ndarray:
        """[num_users] int64: how many items each user has."""

    @property
    @abstractmethod
    def popularity(self) -> np.ndarray:
        """[num_items] int64: how many users each item has."""

    @abstractmethod
    def row_sums(self, values: np.ndarray) -> np.ndarray:
        """[num_users] float64: what `values` [num_items] come to over each user's items."""

    @abstractmethod
    def parts(self, *others: Pairs) -> Iterator[tuple[Interactions, ...]]:
        """These pairs and others of the same data, the same users of all of them at a time.

        Each part is over all users and items, most of whose rows are empty where there are
        several parts.
        """

    @abstractmethod
    def in_memory(self) -> Interactions:
        """All of these pairs, 4 bytes each."""

    @abstractmethod
    def sample(self, most: int) -> Interactions:
        """These pairs in memory; of those that are streamed at most so many of each user's."""

    @abstractmethod
    def union(self, other: Any) -> Pairs:
        """The pairs of either, over the same users and items."""


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Interactions(Pairs):
    """Distinct (user, item) pairs as rows of ascending items, one row a user.

    Attributes:
      offsets: [num_users + 1] int64, where each user's row begins in `items`.
      items: [num_pairs] int32 in [0, num_items), ascending within a row.
      num_items: the size of the catalogue.
    """

    offsets: np.ndarray
    items: np.ndarray
    num_items: int

    @classmethod
    def from_pairs(
        cls, users: np.ndarray, items: np.ndarray, *, num_users: int, num_items: int
    ) -> Interactions:
        """Builds the rows from pairs in any order; pairs given twice are merged.

        Args:
          users: [num_pairs] integers in [0, num_users).
          items: [num_pairs] integers in [0, num_items).
          num_users: the number of rows, users without a pair among them.
          num_items: the size of the catalogue.

        Raises:
          InputError: if an index is out of range or the arrays' lengths differ.
        """
        users, items = _as_integers(users), _as_integers(items)
        if users.shape != items.shape or users.ndim != 1:
            raise expected(
                "users and items as two vectors of one length",
                received=f"shapes {users.shape} and {items.shape}",
                remedy="Pass one user and one item per pair.",
            )
        _check_range("user", users, num_users)
        _check_range("item", items, num_items)
        keys = users.astype(np.int64)
        keys *= num_items
        keys += items
        keys = distinct(keys)
        first_keys = np.arange(num_users + 1) * num_items  # of each row
        offsets = np.searchsorted(keys, first_keys)
        keys -= np.repeat(first_keys[:-1], np.diff(offsets))
        return cls(offsets, keys.astype(np.int32), num_items)

    @property
    def num_users(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_pairs(self) -> int:
        return len(self.items)

    @functools.cached_property
    def degrees(self) -> np.ndarray:
        """[num_users] int64: how many items each user has."""
        return np.diff(self.offsets)

    @functools.cached_property
    def users(self) -> np.ndarray:
        """[num_pairs] int32: the user of each entry of `items`."""
        return np.repeat(np.arange(self.num_users, dtype=np.int32), self.degrees)

    @functools.cached_property
    def popularity(self) -> np.ndarray:
        """[num_items] int64: how many users each item has."""
        return np.bincount(self.items, minlength=self.num_items)

    def row_sums(self, values: np.ndarray) -> np.ndarray:
        sums = [
            np.bincount(
                np.repeat(np.arange(last - first), self.degrees[first:last]),
                weights=values[self.items[self.offsets[first] : self.offsets[last]]],
                minlength=last - first,
            )
            for first, last in self.blocks()
        ]
        return np.concatenate(sums)

    def parts(self, *others: Pairs) -> Iterator[tuple[Interactions, ...]]:
        yield (self, *others)  # type: ignore[arg-type]  # in memory, as these are

    def in_memory(self) -> Interactions:
        return self

    def sample(self, most: int) -> Interactions:
        return self

    @property
    def keys(self) -> np.ndarray:
        """[num_pairs] int64, ascending: user * num_items + item, one number a pair.

        Made anew each time: they take twice the memory of the items.
        """
        return self.keys_of(0, self.num_users)

    def keys_of(self, first: int, last: int) -> np.ndarray:
        """The keys of the users from `first` to before `last`."""
        offsets = self.offsets[first : last + 1]
        keys = np.repeat(np.arange(first, last) * self.num_items, np.diff(offsets))
        keys += self.items[offsets[0] : offsets[-1]]
        return keys

    def blocks(self, num_pairs: int = _PAIRS_PER_BLOCK) -> Iterator[tuple[int, int]]:
        """Ranges of users, `first` to before `last`, with so many pairs at most or one user."""
        first = 0
        while first < self.num_users:
            most = self.offsets[first] + num_pairs
            fitting = int(np.searchsorted(self.offsets, most, side="right")) - 1
            last = max(first + 1, fitting)
            yield first, last
            first = last

    def row(self, user: int) -> np.ndarray:
        """[degree] int32: one user's items, ascending."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def contains(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Whether each (user, item) is a pair here; broadcasts, bool. Items may be any number."""
        items = np.asarray(items)
        queries = np.asarray(users, np.int64) * self.num_items + items
        if not self.num_pairs:
            return np.zeros(queries.shape, bool)
        keys = self.keys
        places = np.minimum(np.searchsorted(keys, queries), self.num_pairs - 1)
        return (keys[places] == queries) & (items >= 0) & (items < self.num_items)

    def select(self, mask: np.ndarray) -> Interactions:
        """The pairs where `mask` [num_pairs] holds, over the same users and items."""
        counts = np.bincount(self.users[mask], minlength=self.num_users)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Interactions(offsets, self.items[mask], self.num_items)

    def union(self, other: Interactions) -> Interactions:
        """The pairs of either, over the same users and items."""
        return Interactions.from_pairs(
            np.concatenate([self.users, other.users]),
            np.concatenate([self.items, other.items]),
            num_users=self.num_users,
            num_items=self.num_items,
        )


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """The splits of one catalogue, over the same users and items.

    Attributes:
      name: what reports and run folders call it.
      train: the pairs to learn from.
      test: the pairs held out for the final figures.
      valid: the pairs that every choice is made on, or None: carve them from train.
      given: negatives that the data brings along (dislikes, impressions without a click),
        as the data has them, also where a pair is a positive too, or None: it has none.
        They belong to no split: rankings neither look for them nor leave them out.
      user_ids: [num_users] str, the original ids.
      item_ids: [num_items] str, the original ids.
      notes: what reading mended, by name, with its count (`duplicate_pairs`, …).
      time_span: Unix seconds of the first and of the last row, or None: it has no times.
    """

    name: str
    train: Interactions
    test: Interactions
    user_ids: np.ndarray
    item_ids: np.ndarray
    valid: Interactions | None = None
    given: Interactions | None = None
    notes: Mapping[str, int] = dataclasses.field(default_factory=dict)
    time_span: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.train.num_pairs:
            raise InputError(
                f"Expected train pairs in dataset {self.name!r}; received none. "
                "Check that the train file has lines `user item item …`."
            )
        if not self.test.num_pairs:
            raise InputError(
                f"Expected held-out test pairs in dataset {self.name!r}; received none that "
                "train does not have. Without them nothing can be measured: add a test file."
            )
        if self.valid is not None and not self.valid.num_pairs:
            raise expected(
                f"validation pairs in dataset {self.name!r}, or None to carve them from train",
                received="none",
                remedy="Leave valid out.",
            )
        sizes = (self.num_users, self.num_items)
        for name, one in (("test", self.test), ("valid", self.valid), ("given", self.given)):
            if one is not None and (one.num_users, one.num_items) != sizes:
                raise expected(
                    f"{name} pairs of train's {sizes[0]:,} users and {sizes[1]:,} items",
                    received=f"{one.num_users:,} users and {one.num_items:,} items",
                    remedy="Make all splits over the same users and items.",
                )
        if (ids := (len(self.user_ids), len(self.item_ids))) != sizes:
            raise expected(
                f"an id of each of {sizes[0]:,} users and {sizes[1]:,} items",
                received=f"{ids[0]:,} and {ids[1]:,} ids",
                remedy="Give one of each, in their order.",
            )

    def __repr__(self) -> str:
        listed = ", ".join(f"{count:,} {name}" for name, count in self._sizes().items())
        return f"<{type(self).__name__} {self.name!r}: {listed}>"

    @property
    def num_users(self) -> int:
        return self.train.num_users

    @property
    def num_items(self) -> int:
        return self.train.num_items

    @functools.cached_property
    def seen(self) -> Interactions:
        """Train and validation pairs: what rankings on test and for users leave out."""
        return self.train.union(self.valid) if self.valid is not None else self.train

    @property
    def splits(self) -> dict[str, Interactions]:
        """The splits that are there, by name, in the order train, valid, test."""
        named = {"train": self.train, "valid": self.valid, "test": self.test}
        return {name: split for name, split in named.items() if split is not None}

    def counts(self) -> dict[str, int]:
        """Users, items, pairs of each split, and whatever else is worth reporting.

        Carving validation from train changes none of the peculiarities: what train and
        validation have together counts as seen.
        """
        peculiar = {
            "given_negatives": self.given.num_pairs if self.given is not None else 0,
            "users_without_train_pairs": int(np.sum(self.train.degrees == 0)),
            "users_with_whole_catalogue": int(np.sum(self.seen.degrees == self.num_items)),
            "test_items_never_in_train": int(
                np.sum((self.test.popularity > 0) & (self.seen.popularity == 0))
            ),
            **self.notes,
        }
        return self._sizes() | {name: count for name, count in peculiar.items() if count}

    def _sizes(self) -> dict[str, int]:
        """Users, items, and pairs of each split."""
        sizes = {"users": self.num_users, "items": self.num_items}
        return sizes | {name: split.num_pairs for name, split in self.splits.items()}

    def checksum(self) -> str:
        """SHA-256 over the ids and every split's pairs: equal data, equal checksum.

        Given negatives count where there are any, so that data without keeps its checksum.
        """
        digest = hashlib.sha256()
        for ids in (self.user_ids, self.item_ids):
            digest.update("\n".join(map(str, ids)).encode() + b"\0")
        given = {"given": self.given} if self.given is not None and self.given.num_pairs else {}
        for name, split in {**self.splits, **given}.items():
            digest.update(name.encode() + b"\0")
            for first, last in split.blocks():
                digest.update(split.keys_of(first, last).astype("<i8").tobytes())
        return digest.hexdigest()


def distinct(values: np.ndarray) -> np.ndarray:
    """The different values in ascending order, as `np.unique`, whose hashing is slower."""
    ordered = np.sort(values)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered if is_new.all() else ordered[is_new]


def _as_integers(indices: np.ndarray) -> np.ndarray:
    """An array of integers, as wide as they came.

    Raises:
      InputError: for numbers between whole ones, which would be cut off.
    """
    indices = np.asarray(indices)
    if indices.dtype.kind == "f" and not (np.isfinite(indices) & (indices % 1 == 0)).all():
        raise expected(
            "whole numbers as users and items", received=indices.dtype, remedy="Number them."
        )
    return indices if indices.dtype.kind == "i" else indices.astype(np.int64)


def _check_range(kind: str, indices: np.ndarray, size: int) -> None:
    if len(indices) and (indices.min() < 0 or indices.max() >= size):
        worst = indices.min() if indices.min() < 0 else indices.max()
        raise expected(
            f"{kind} indices in [0, {size})",
            received=worst,
            remedy=f"Renumber the {kind}s or correct the number of {kind}s.",
        )
