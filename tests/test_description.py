"""A dataset's figures, against counting by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from commands import Command
from feedback import rows_of, write

from autosample_tf.commands.description import describe, distribution
from autosample_tf.commands.description_plot import plot_degrees, survival
from autosample_tf.errors import InputError
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.synthetic import synthetic


def tiny() -> Dataset:
    """4 users, 5 items; item 3 is in test only, and item 4 nowhere; user 3 is in test only."""

    def rows(*pairs: tuple[int, int]) -> Interactions:
        users, items = np.array(pairs).T
        return Interactions.from_pairs(users, items, num_users=4, num_items=5)

    return Dataset(
        "tiny",
        train=rows((0, 0), (0, 1), (1, 0), (2, 0)),
        valid=rows((0, 2)),
        test=rows((1, 3), (2, 1), (3, 3), (3, 0)),
        user_ids=np.arange(4).astype(str),
        item_ids=np.arange(5).astype(str),
        time_span=(0.0, 86_400.0),
    )


def test_figures_counted_by_hand() -> None:
    figures = describe(tiny())
    assert figures["density"] == 4 / 20
    assert figures["cold_items"] == 2 / 5
    assert figures["cold_test_pairs"] == 2 / 4
    assert figures["cold_test_users"] == 1 / 3
    assert figures["first_time"] == "1970-01-01T00:00:00Z"
    assert figures["last_time"] == "1970-01-02T00:00:00Z"
    # Users have 3, 2, 2 and 2 pairs; items 4, 2, 1, 2 and 0.
    assert figures["items_per_user"]["mean"] == 9 / 4
    assert figures["users_per_item"]["median"] == 2
    assert figures["users_per_item"]["max"] == 4


def test_without_times_there_is_no_span() -> None:
    assert "first_time" not in describe(synthetic(40, 30, mean_pairs=8))


@pytest.mark.parametrize("counts", [[1], [0, 0, 7], [1, 2, 3, 4], [5] * 9, list(range(101))])
def test_a_distribution_against_its_definition(counts: list[int]) -> None:
    values = np.array(counts)
    found = distribution(values)
    differences = np.abs(values[:, None] - values[None, :]).mean()
    assert found["gini"] == pytest.approx(differences / 2 / values.mean())
    assert (found["min"], found["max"]) == (min(counts), max(counts))
    for name, share in (("p10", 0.1), ("median", 0.5), ("p90", 0.9), ("p99", 0.99)):
        assert np.mean(values <= found[name]) >= share
        assert np.mean(values < found[name]) < share


def test_survival_counted_by_hand() -> None:
    values, shares = survival(np.array([0, 1, 1, 3, 7]))
    assert values.tolist() == [1, 3, 7]
    assert shares.tolist() == [4 / 5, 2 / 5, 1 / 5]


@pytest.mark.parametrize(
    ("suffix", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")]
)
def test_a_plot(tmp_path: Path, suffix: str, begins: bytes) -> None:
    plot_degrees(tiny(), tmp_path / "plots" / f"degrees{suffix}")
    assert (tmp_path / "plots" / f"degrees{suffix}").read_bytes().startswith(begins)


def test_another_kind_of_plot_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a .png, .svg or .pdf file .*received degrees.txt"):
        plot_degrees(tiny(), tmp_path / "degrees.txt")


# --- the commands

ROWS = rows_of(30, 20)


def test_describe_takes_every_option_of_a_table(tmp_path: Path, command: Command) -> None:
    path = write(tmp_path, "t.csv.gz", ROWS)
    options = ["--user-col", "user_id", "--item-col", "item_id", "--rating-col", "rating",
               "--min-rating", "1", "--time-col", "timestamp", "--since", "2020-01-01",
               "--until", "2021-01-01", "--k-core", "3", "--split-by", "leave-last:n=2",
               "--cache", "off", "--plot", tmp_path / "p.png", "--json"]  # fmt: skip
    code, out, err = command("data", "describe", "--dataset", path, *options)
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert told["name"] == "t"
    assert told["test"] == told["valid"] == 2 * told["users"]
    assert told["items_per_user"]["min"] >= 3
    assert told["first_time"].startswith("2020-09-13")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_describe_is_for_people_to_read(tmp_path: Path, command: Command) -> None:
    out = command("data", "describe", "--dataset", write(tmp_path, "t.csv", ROWS)).out
    assert "items per user               mean " in out
    assert "cold items" in out


def test_convert_and_what_it_wrote_is_a_dataset(tmp_path: Path, command: Command) -> None:
    path, folder = write(tmp_path, "t.csv", ROWS), tmp_path / "converted"
    options = ["--min-rating", "2", "--split-by", "leave-last", "--seed", "5"]
    made = command("data", "convert", "--dataset", path, *options, "--output", folder)
    assert made.code == 0
    described = [
        json.loads(command("data", "describe", "--dataset", source, *own, "--json").out)
        for source, own in ((path, options), (folder, []))
    ]
    assert described[0] == described[1]
    manifest = json.loads((folder / "dataset.json").read_text())
    assert manifest["source"] == {
        "dataset": str(path), "min_rating": 2.0, "split_by": "leave-last", "seed": 5
    }  # fmt: skip
    again = command("data", "convert", "--dataset", path, "--output", folder)
    assert again.code == 1
    assert "Expected a folder that is not there yet" in again.err
