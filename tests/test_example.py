"""The example of TFRS's tutorial, and what `docs/your-own-model.md` shows, run."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import tensorflow as tf

import autosample_tf
from autosample_tf.optimizers import RowSparseAdam
from autosample_tf.pipeline import padded_batches

ROOT = Path(__file__).parent.parent


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module("tfrs_retrieval")


@pytest.fixture
def some_ratings(tmp_path: Path) -> Path:
    """3,000 ratings of a file like MovieLens', most of them of a user's own half of the movies."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, 60, 3000)
    movies = 2 * rng.integers(0, 50, 3000) + users % 2 * (rng.random(3000) < 0.9)
    lines = [
        f"{user}\t{movie}\t3\t0" for user, movie in sorted(set(zip(users, movies, strict=True)))
    ]
    path = tmp_path / "ratings.inter"
    path.write_text("\n".join(["user_id:token\titem_id:token\trating\ttimestamp", *lines]))
    return path


def measures(text: str) -> dict[str, float]:
    """Recall@20 by what was trained with."""
    return {name: float(value) for name, value in re.findall(r"(\w+): Recall@20 ([\d.]+)", text)}


def test_the_example_runs(
    example: ModuleType, some_ratings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    example.main([str(some_ratings), "--epochs", "6"])
    told = capsys.readouterr().out
    assert set(measures(told)) == {"with_tfrs", "with_tfrs_and_log_q", "with_autosample"}
    assert measures(told)["with_autosample"] > 0.3  # chance: 20 of some 75 unseen is .27
    assert "weights: " in told


def test_the_documents_lines_train_index_and_serve(
    example: ModuleType, some_ratings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks follow each other; `ratings` and the towers are the example's."""
    text = (ROOT / "docs/your-own-model.md").read_text(encoding="utf-8")
    ratings = example.read(some_ratings)
    scope = {
        "autosample_tf": autosample_tf, "tf": tf, "tfrs": example.tfrs, "ratings": ratings,
        "RowSparseAdam": RowSparseAdam, "padded_batches": padded_batches,
        "user_model": example.tower(ratings.user_ids),
        "movie_model": example.tower(ratings.movie_ids),
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shown = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(shown) == 4
    for code in shown:
        exec(code, scope)
    again = tf.saved_model.load(str(tmp_path / "index"))
    np.testing.assert_array_equal(again(tf.constant(["42"]))[1], scope["titles"])


@pytest.mark.slow
def test_on_movielens_it_ranks_as_the_document_says(
    example: ModuleType, data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Within a tenth, which another order of sums or seed of Keras can make."""
    example.main([str(data_root / "ml-100k" / "ml-100k.inter")])
    text = (ROOT / "docs/your-own-model.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)`.*?\| (\.\d+) \|", text, re.MULTILINE))
    told = measures(capsys.readouterr().out)
    assert set(rows) == set(told)
    for name, value in told.items():
        assert value == pytest.approx(float(rows[name]), rel=0.1)
