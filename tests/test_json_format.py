"""JSON lines whose fields are not all of one kind, or come late."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autosample_tf.reading.json_format import read_json_lines
from autosample_tf.reading.table_options import TableOptions


def columns(path: Path, lines: list[dict[str, Any]], **options: Any) -> dict[str, list]:
    path.write_text("\n".join(map(json.dumps, lines)))
    part = read_json_lines(path, TableOptions(**options))
    return {role: column.to_pylist() for role, column in part.columns.items()}


def lines(extra: list[Any], name: str = "rating") -> list[dict[str, Any]]:
    return [{"user": "u", "item": at, name: value} for at, value in enumerate(extra)]


@pytest.mark.parametrize("extra", [[[1], [2]], [4, "n/a", 5], [{"$date": 3}], [None] * 200 + [4]])
def test_what_nothing_depends_on_is_left_out_where_it_is_of_no_kind(
    tmp_path: Path, extra: list[Any]
) -> None:
    found = columns(tmp_path / "t.jsonl", lines(extra))
    assert found.keys() == {"user", "item"}
    assert found["item"] == list(range(len(extra)))


def test_one_that_is_of_no_kind_takes_no_other_with_it(tmp_path: Path) -> None:
    given = [{"user": 1, "item": 2, "rating": r, "timestamp": 3} for r in (1, "x")]
    assert columns(tmp_path / "t.jsonl", given).keys() == {"user", "item", "time"}


def test_what_is_needed_may_come_late(tmp_path: Path) -> None:
    found = columns(tmp_path / "t.jsonl", lines([None] * 300 + [4, 2]), min_rating=3)
    assert found["rating"] == [None] * 300 + [4, 2]
    given = [{"user": "u", "item": 1}] * 300 + lines([4])
    assert columns(tmp_path / "t.jsonl", given, min_rating=3)["rating"][-1] == 4


def test_labels_may_be_true_and_false(tmp_path: Path) -> None:
    given = lines([True, False, True], "clicked")
    found = columns(tmp_path / "t.jsonl", given, label_column="clicked")
    assert found["label"] == [True, False, True]
