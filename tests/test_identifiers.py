"""Ids as text in one order, from columns of any type."""

from __future__ import annotations

import pyarrow
import pytest

from autosample_tf.reading.identifiers import LONGEST_ID, Unusable, encode


def encoded(*columns: pyarrow.Array) -> tuple[list[str], list[int]]:
    ids, codes = encode([pyarrow.chunked_array([column]) for column in columns])
    return ids.tolist(), codes.tolist()


@pytest.mark.parametrize(
    ("column", "ids"),
    [
        (pyarrow.array([10, 9, 10, -3]), ["-3", "9", "10"]),
        (pyarrow.array(["10", "9", "007", "7"]), ["007", "7", "9", "10"]),
        (pyarrow.array(["10", "9", "1" * 40]), ["9", "10", "1" * 40]),
        (pyarrow.array(["10", "9", "x"]), ["10", "9", "x"]),
        (pyarrow.array(["é", "z", "\U0001f600", "\uffff"]), ["z", "é", "\uffff", "\U0001f600"]),
        (pyarrow.array(["b", "a", "b"]).dictionary_encode(), ["a", "b"]),
        (pyarrow.DictionaryArray.from_arrays([2, 0], ["b", "unused", "a"]), ["a", "b"]),
        (pyarrow.array([7.0, 0.5]), ["0.5", "7"]),
        (pyarrow.array([7.0, 0.5]).dictionary_encode(), ["0.5", "7"]),
        (pyarrow.array([True, False]), ["false", "true"]),
        (pyarrow.array([b"b", b"a"]), ["a", "b"]),
        (pyarrow.array([2**63], pyarrow.uint64()), ["9223372036854775808"]),
    ],
)
def test_ids_of_a_type(column: pyarrow.Array, ids: list[str]) -> None:
    found, codes = encoded(column)
    assert found == ids
    text = column.cast(pyarrow.string()).to_pylist()
    assert [found[code] for code in codes] == text


def test_whole_numbers_are_the_same_ids_as_floats() -> None:
    """As pandas leaves a column in which a number was missing once."""
    numbers = [12345678901, 2**53, 0, 7]
    floats = pyarrow.array([*map(float, numbers), -0.0, 0.25])
    ids, codes = encoded(pyarrow.array(numbers), floats)
    assert set(ids) == {*map(str, numbers), "0.25"}
    assert codes[:4] == codes[4:8]
    assert ids[codes[8]] == "0"


def test_columns_of_different_types_have_the_same_ids() -> None:
    ids, codes = encoded(pyarrow.array([2, 1]), pyarrow.array(["1", "2", "3"]))
    assert ids == ["1", "2", "3"]
    assert codes == [1, 0, 0, 1, 2]


@pytest.mark.parametrize(
    ("column", "unusable"),
    [
        (["a", None, ""], Unusable(1, "an empty one")),
        (["a", " \t", ""], Unusable(1, "an empty one")),
        (["a", "b\0"], Unusable(1, "one with a NUL character")),
        (["a", "a", "x" * (LONGEST_ID + 1)], Unusable(2, f"one of more than {LONGEST_ID} charac")),
    ],
)
def test_what_is_no_id_is_told_with_its_row(column: list, unusable: Unusable) -> None:
    for array in (pyarrow.array(column), pyarrow.array(column).dictionary_encode()):
        found = encode([pyarrow.chunked_array([array])])
        assert found.row == unusable.row
        assert found.reason.startswith(unusable.reason)


@pytest.mark.parametrize(
    ("kind", "most"), [(pyarrow.float64(), 2.0**53), (pyarrow.float32(), 2.0**24)]
)
def test_floats_that_may_have_been_rounded_are_no_ids(kind: pyarrow.DataType, most: float) -> None:
    column = pyarrow.array([1.0, most, 1.5 * most], kind)
    found = encode([pyarrow.chunked_array([pyarrow.array(["a"])]), pyarrow.chunked_array([column])])
    assert isinstance(found, Unusable)
    assert found.row == 3
    assert "rounds whole numbers" in found.reason


def test_a_null_among_categories_is_no_id() -> None:
    column = pyarrow.DictionaryArray.from_arrays([0, 1, 0], pyarrow.array(["a", None]))
    assert encode([pyarrow.chunked_array([column])]) == Unusable(1, "an empty one")


def test_many_chunks_have_the_ids_of_one() -> None:
    for values in ([3, 1, 2] * 50, ["c", "a", "b"] * 50):
        chunks = pyarrow.chunked_array([values[at : at + 7] for at in range(0, 150, 7)] + [[]],
                                       type=pyarrow.array(values).type)  # fmt: skip
        ids, codes = encode([chunks, chunks])
        assert [ids[code] for code in codes] == list(map(str, values * 2))


def test_bytes_that_are_no_text_are_no_ids() -> None:
    with pytest.raises(pyarrow.ArrowInvalid):
        encode([pyarrow.chunked_array([pyarrow.array([b"\xff"])])])
