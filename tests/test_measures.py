"""Columns of times in whatever way they are written."""

from __future__ import annotations

import pyarrow
import pytest

from autosample_tf.errors import InputError
from autosample_tf.reading.columns import Part
from autosample_tf.reading.measures import times, times_if_any

DAY = 1_577_836_800  # 2020-01-01


def parts(*columns: list) -> list[Part]:
    return [
        Part(
            {"user": array, "time": array},
            {"user": "u", "time": "when"},
            "t",
            lambda row: f"t:{row}",
        )
        for array in (pyarrow.chunked_array([pyarrow.array(column)]) for column in columns)
    ]


@pytest.mark.parametrize(
    ("column", "seconds"),
    [
        ([DAY, 0], [DAY, 0]),
        ([DAY * 1000, DAY * 1000 + 500], [DAY, DAY + 0.5]),
        ([str(DAY)], [DAY]),
        ([1, 2, 3], [1, 2, 3]),  # an order alone
        (["2020-01-01", " 2020-01-01T00:00:01 "], [DAY, DAY + 1]),
        (["2020-01-01 00:00:00.123456789"], [DAY + 0.123456]),
        (["2020-01-01T01:00:00Z", "2020-01-01 01:00:00"], [DAY + 3600, DAY + 3600]),
        (["2020-01-01T01:00+02:00", "2020-01-01 01:00:00-0500"], [DAY - 3600, DAY + 6 * 3600]),
        (["2020-01-01", "9999-12-31"], [DAY, 253_402_214_400]),
    ],
)
def test_a_column_of_times(column: list, seconds: list[float]) -> None:
    assert times(parts(column)) == pytest.approx(seconds, abs=1e-6)
    assert times_if_any(parts(column)) == pytest.approx(seconds, abs=1e-6)


def test_parts_may_write_them_differently() -> None:
    assert times(parts(["2020-01-02"], [DAY * 1000])).tolist() == [DAY + 86_400, DAY]


@pytest.mark.parametrize(
    "column", [[2015, 2016, 0], ["20200115"], [20200115120000, 20191231235959]]
)
def test_dates_of_digits_alone_are_refused(column: list) -> None:
    """As Unix time they would be of 1970 or of the year 2600, and no window would leave any out."""
    with pytest.raises(InputError, match="'when' at t:0; received .*, as all are: dates in digits"):
        times(parts(column))
    assert times_if_any(parts(column)) is None


def test_periods_are_no_times() -> None:
    """pandas counts months in them, say."""
    pandas = pytest.importorskip("pandas")
    months = pandas.period_range("2020-01", periods=3, freq="M")
    with pytest.raises(InputError, match="a time"):
        times(parts(months))
    assert times_if_any(parts(months)) is None
