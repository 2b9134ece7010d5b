"""The folder that LightGCN reads: train.txt, test.txt and, where there is one, valid.txt.

A line is `user item item …`, non-negative integers with spaces or tabs between them. A
user may stand on several lines of a file, and alone on a line: then it belongs to the
catalogue and has nothing there. Blank lines, a byte order mark and any line ending are fine.

The bytes are parsed as arrays rather than line by line, some megabytes at a time: a million
pairs take a fraction of a second, and any number little more memory than they have items.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from autosample_tf.errors import InputError, expected
from autosample_tf.interactions import SPLITS, Dataset, Interactions, distinct
from autosample_tf.splits import without_seen

_REQUIRED = ("train", "test")
_LINE = "a line `user item item …` of non-negative integers"
_EARLIEST_TIME = 10**8  # 1973 in Unix seconds, and more items than any catalogue has
_MOST_DIGITS = 18  # what int64 holds whatever the digits are
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_BLOCK = 1 << 23  # bytes that are parsed at once, or one line if that is longer

# What each byte is: a digit, a space within a line, the end of a line, or out of place.
_OTHER, _DIGIT, _SPACE, _END = range(4)
_KINDS = np.full(256, _OTHER, np.uint8)
_KINDS[np.frombuffer(b"0123456789", np.uint8)] = _DIGIT
_KINDS[np.frombuffer(b" \t", np.uint8)] = _SPACE
_KINDS[np.frombuffer(b"\r\n", np.uint8)] = _END


@dataclasses.dataclass(frozen=True, eq=False)
class _Lines:
    """What a file's lines say, in the ids that they say it in.

    Attributes:
      users: [num_lines] int64, the user of each line that is not blank.
      counts: [num_lines] int64, how many items the line has.
      items: [sum of counts] int32 where that holds them, else int64; line after line.
    """

    users: np.ndarray
    counts: np.ndarray
    items: np.ndarray


def read_lightgcn(folder: Path, *, name: str) -> Dataset:
    """Reads a folder of `train.txt`, `test.txt` and an optional `valid.txt`.

    The catalogue is every user and every item of every file, in ascending order of id.
    Pairs given twice are merged; held-out pairs that an earlier split has (in the order
    train, valid, test) are dropped, since a seen item is never ranked. Both are counted in
    the dataset's notes, and so are test lines with a user alone.

    Args:
      folder: where the files are.
      name: what to call the dataset.

    Raises:
      InputError: if a file is missing or malformed, or a split has no pair left.
    """
    files = {split: folder / f"{split}.txt" for split in SPLITS}
    _check_files(folder, [files[split] for split in _REQUIRED])
    lines = {split: parse(path) for split, path in files.items() if path.is_file()}
    for split, part in lines.items():
        _check_no_table(files[split], part)
    user_ids = _vocabulary([part.users for part in lines.values()])
    item_ids = _vocabulary([part.items for part in lines.values()])
    merged = {split: _index(part, user_ids, item_ids) for split, part in lines.items()}
    unseen = without_seen(merged)
    if "valid" in unseen and not unseen["valid"].num_pairs:
        raise expected(
            f"validation pairs outside train in {files['valid']}",
            received="none",
            remedy="Delete the file to have validation carved from train.",
        )
    return Dataset(
        name=name,
        train=unseen["train"],
        test=unseen["test"],
        valid=unseen.get("valid"),
        user_ids=_as_text(user_ids),
        item_ids=_as_text(item_ids),
        notes=_notes(lines, merged, unseen),
    )


def _notes(
    lines: dict[str, _Lines], merged: dict[str, Interactions], unseen: dict[str, Interactions]
) -> dict[str, int]:
    """What reading mended, and lines worth knowing of."""
    num_given = sum(len(part.items) for part in lines.values())
    num_merged = sum(pairs.num_pairs for pairs in merged.values())
    num_unseen = sum(pairs.num_pairs for pairs in unseen.values())
    return {
        "duplicate_pairs": num_given - num_merged,
        "held_out_pairs_in_train": num_merged - num_unseen,
        "empty_test_lines": int(np.sum(lines["test"].counts == 0)),
    }


def parse(path: Path) -> _Lines:
    """Reads one file's lines.

    Raises:
      InputError: at the first line that is malformed, which the message names.
    """
    parts, place = [], 0
    for text in _blocks(path):
        parts.append(_parse_block(path, text, place))
        place += len(text)
    fields = ([getattr(part, field) for part in parts] for field in ("users", "counts", "items"))
    return _Lines(*map(np.concatenate, fields))


def _blocks(path: Path) -> Iterator[bytes]:
    """The file's bytes without a byte order mark, some whole lines at a time; one at least."""
    with path.open("rb") as file:
        rest = file.read(len(_BYTE_ORDER_MARK)).removeprefix(_BYTE_ORDER_MARK)
        while read := file.read(_BLOCK):
            text = rest + read
            end = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
            yield text[:end]
            rest = text[end:]
        yield rest


def _parse_block(path: Path, text: bytes, place: int) -> _Lines:
    """Some whole lines of the file, which stand at `place` in it."""
    # A line end before the first byte and after the last gives every number an edge.
    kinds = np.full(len(text) + 2, _END, np.uint8)
    kinds[1:-1] = _KINDS[np.frombuffer(text, np.uint8)]
    if not kinds.all():
        raise _misplaced_byte(path, place + int(np.argmin(kinds)) - 1)
    is_digit = kinds == _DIGIT
    # Where digits begin and end: [num_numbers, 2] positions in text, the end excluded.
    edges = np.flatnonzero(is_digit[1:] != is_digit[:-1]).reshape(-1, 2)
    starts, lengths = edges[:, 0], edges[:, 1] - edges[:, 0]
    if len(lengths) and lengths.max() > _MOST_DIGITS:
        raise _too_large(path, place + int(starts[np.argmax(lengths > _MOST_DIGITS)]))
    numbers = _numbers(text, starts, lengths)
    line_ends = np.flatnonzero(kinds[1:-1] == _END)
    line_of_number = np.searchsorted(line_ends, starts)
    is_user = np.diff(line_of_number, prepend=-1) != 0
    numbers_on_line = np.diff(np.append(np.flatnonzero(is_user), len(numbers)))
    return _Lines(numbers[is_user], numbers_on_line - 1, _narrow(numbers[~is_user]))


def _narrow(items: np.ndarray) -> np.ndarray:
    """The same numbers as int32, if they are not too large for that."""
    fits = items.max(initial=0) <= np.iinfo(np.int32).max
    return items.astype(np.int32) if fits else items


def _numbers(text: bytes, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """[num_numbers] int64: the values of the digits at `starts`, a decimal place at a time."""
    digits = np.frombuffer(text, np.uint8)
    values = np.zeros(len(starts), np.int64)
    for place in range(int(lengths.max(initial=0))):
        longer = np.flatnonzero(lengths > place)
        values[longer] = values[longer] * 10 + (digits[starts[longer] + place] - ord("0"))
    return values


def _vocabulary(parts: list[np.ndarray]) -> np.ndarray:
    """The different ids of all parts in ascending order."""
    pieces = [part[at : at + _BLOCK] for part in parts for at in range(0, len(part), _BLOCK)]
    return distinct(np.concatenate([distinct(piece) for piece in pieces] or parts))


def _index(lines: _Lines, user_ids: np.ndarray, item_ids: np.ndarray) -> Interactions:
    """The pairs of a file, numbered as in the catalogue."""
    return Interactions.from_pairs(
        np.repeat(_places(lines.users, user_ids), lines.counts),
        _places(lines.items, item_ids),
        num_users=len(user_ids),
        num_items=len(item_ids),
    )


def _places(ids: np.ndarray, vocabulary: np.ndarray) -> np.ndarray:
    """Where each id stands in the ascending vocabulary, which has all of them: int32."""
    if len(vocabulary) and vocabulary[-1] == len(vocabulary) - 1:
        return ids.astype(np.int32, copy=False)  # 0, 1, 2, …, as most published files have it
    return np.searchsorted(vocabulary, ids).astype(np.int32)


def _as_text(ids: np.ndarray) -> np.ndarray:
    """The ids as strings, as wide as the longest (`astype(str)` takes 21 places for each)."""
    return np.array([str(number) for number in ids.tolist()], np.str_)


def _check_files(folder: Path, required: list[Path]) -> None:
    if missing := [path.name for path in required if not path.is_file()]:
        there = sorted(path.name for path in folder.iterdir())
        raise expected(
            f"train.txt and test.txt in the folder {folder}",
            received=f"{', '.join(there[:10]) or 'an empty folder'}"
            + (f" and {len(there) - 10} more" if len(there) > 10 else ""),
            remedy=f"Put {' and '.join(missing)} there, or give the path of a table "
            "(.csv, .parquet, …) or of a folder of them.",
        )


def _check_no_table(path: Path, lines: _Lines) -> None:
    """Refuses rows of user, item, rating and time, which would be read as three items each."""
    if not len(lines.counts) or (lines.counts != 3).any():
        return
    if len(distinct(lines.users)) < len(lines.users) and lines.items[2::3].min() >= _EARLIEST_TIME:
        raise expected(
            f"{_LINE} in {path}",
            received="a user, an item, a rating and a time on every line",
            remedy="Rename it to .tsv or .csv and pass --columns user,item,rating,timestamp.",
        )


def _misplaced_byte(path: Path, place: int) -> InputError:
    """The error for the word around a byte that is no digit, space or line end."""
    text = _text(path)
    word = _word(text, place)
    if re.fullmatch("-[0-9]+", word):
        remedy = "Number users and items from 0 upwards."
    else:
        remedy = "Write ids as integers, or give a .csv, .tsv or .inter table: any text there."
    return expected(f"{_LINE} at {path}:{_line(text, place)}", received=repr(word), remedy=remedy)


def _too_large(path: Path, place: int) -> InputError:
    text = _text(path)
    return expected(
        f"{_LINE} of at most {_MOST_DIGITS} digits at {path}:{_line(text, place)}",
        received=repr(_word(text, place)),
        remedy="Renumber the ids, or give a .csv, .tsv or .inter table: any text there.",
    )


def _text(path: Path) -> bytes:
    """What `_blocks` gives as a whole, for an error's place in it."""
    return path.read_bytes().removeprefix(_BYTE_ORDER_MARK)


def _word(text: bytes, place: int, *, longest: int = 40) -> str:
    """What stands between spaces around a byte; bytes that are no UTF-8 are escaped."""
    before = re.split(rb"[ \t\r\n]", text[max(place - longest, 0) : place])[-1]
    after = re.split(rb"[ \t\r\n]", text[place : place + longest])[0]
    return (before + after).decode(errors="backslashreplace")


def _line(text: bytes, place: int) -> int:
    """The number of the line that a byte is on, the first being 1."""
    return len(re.findall(rb"\r\n|\r|\n", text[:place])) + 1
