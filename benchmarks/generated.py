"""Generated implicit feedback of any size, in the files that a user would have.

    python benchmarks/generated.py path/to/folder 52643 91599 2984108

writes train.txt and test.txt, a fifth of each user's pairs: so many users, items and pairs of
both together. The numbers here are amazon-book's.

Of users and of items alike, those behind a share q of all by activity or popularity have mass
in proportion to 1 / (q + 0.01): the first tenth has half of the pairs, and the last ones have a
fifth of an equal share each, whatever the size. Pairs are drawn independently, and everybody
and everything has one.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from autosample_tf.interactions import Interactions, distinct
from autosample_tf.splits import hold_out

_SKEW = 0.01


def write_generated(folder: Path, num_users: int, num_items: int, num_pairs: int) -> None:
    """Writes the two files, the same ones for the same numbers."""
    pairs = generated(num_users, num_items, num_pairs)
    folder.mkdir(parents=True, exist_ok=True)
    for name, split in zip(("train", "test"), hold_out(pairs, 0.2, seed=0), strict=True):
        write_lines(split, folder / f"{name}.txt")


def generated(num_users: int, num_items: int, num_pairs: int) -> Interactions:
    """So many distinct pairs.

    Args:
      num_users: at least 1.
      num_items: at least 1.
      num_pairs: at least the users and items together, well below their product.
    """
    rng = np.random.default_rng(0)
    users, items = rng.permutation(num_users), rng.permutation(num_items)
    keys = np.concatenate(
        [
            np.arange(num_users) * num_items + items[_skewed(rng, num_users, num_items)],
            users[_skewed(rng, num_items, num_users)] * num_items + np.arange(num_items),
        ]
    )
    while len(keys := distinct(keys)) < num_pairs:
        missing = num_pairs - len(keys)
        drawn = users[_skewed(rng, missing, num_users)] * num_items
        drawn += items[_skewed(rng, missing, num_items)]
        keys = np.concatenate([keys, drawn])
    users, items = np.divmod(keys, num_items)
    return Interactions.from_pairs(users, items, num_users=num_users, num_items=num_items)


def _skewed(rng: np.random.Generator, n: int, size: int) -> np.ndarray:
    """[n] int64 in [0, size), by the inverse of the distribution function of 1 / (q + skew)."""
    q = _SKEW * ((1 + 1 / _SKEW) ** rng.random(n) - 1)
    return np.minimum((q * size).astype(np.int64), size - 1)


def write_lines(pairs: Interactions, path: Path) -> None:
    """A line `user item item …` for each user that has a pair."""
    with path.open("wb") as file:
        for first, last in pairs.blocks():
            file.write(_lines(pairs, first, last))


def _lines(pairs: Interactions, first: int, last: int) -> bytes:
    """The lines of the users from `first` to before `last`, made as one array of digits."""
    offsets = pairs.offsets[first : last + 1]
    has = np.flatnonzero(np.diff(offsets))
    begins = offsets[has] - offsets[0]
    numbers = np.insert(pairs.items[offsets[0] : offsets[-1]], begins, first + has)
    ends = np.append(begins[1:], offsets[-1] - offsets[0]) + np.arange(len(has))
    width = len(str(int(numbers.max(initial=0))))
    powers = 10 ** np.arange(width - 1, -1, -1, dtype=np.int32)
    leading = numbers[:, None] < powers
    leading[:, -1] = False
    text = np.empty((len(numbers), width + 1), np.uint8)
    text[:, :-1] = numbers[:, None] // powers % 10 + ord("0")
    text[:, -1] = ord(" ")
    text[ends, -1] = ord("\n")
    return text[np.pad(~leading, ((0, 0), (0, 1)), constant_values=True)].tobytes()


def main(folder: str, users: str, items: str, pairs: str) -> None:
    """Writes the files and says what they hold."""
    write_generated(Path(folder), int(users), int(items), int(pairs))
    print(f"{folder}: {users} users, {items} items, {pairs} pairs")


if __name__ == "__main__":
    main(*sys.argv[1:])
