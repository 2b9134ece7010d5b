"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest

if TYPE_CHECKING:
    from misbehaving_server import Server

TEST_DATA_VARIABLE = "AUTOSAMPLE_TF_TEST_DATA"
os.environ["AUTOSAMPLE_TF_CACHE"] = "off"  # files are read, in subprocesses too
os.environ["NVIDIA_TF32_OVERRIDE"] = "0"  # products on a GPU are of float32, as commands have them


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the real datasets; tests that ask for it are skipped without one."""
    beside_the_checkout = Path(__file__).parents[1] / ".." / "shared" / "data"
    root = Path(os.environ.get(TEST_DATA_VARIABLE) or beside_the_checkout)
    if not root.is_dir():
        pytest.skip(f"no real data: {TEST_DATA_VARIABLE} names no folder")
    return root


@pytest.fixture
def write_splits(tmp_path: Path) -> Callable[..., Path]:
    """Writes a LightGCN folder: `write_splits(train=b"0 1", test=b"0 2")`."""

    def write(**splits: bytes) -> Path:
        for split, text in splits.items():
            (tmp_path / f"{split}.txt").write_bytes(text)
        return tmp_path

    return write


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of MF on a CSV file whose ids are not ASCII."""
    from autosample_tf.synthetic import synthetic

    folder = tmp_path_factory.mktemp("tiny")
    data = synthetic(60, 80, mean_pairs=15)
    pairs = data.train.union(data.test)
    lines = [f"é{user}⊗,товар {item}" for user, item in zip(pairs.users, pairs.items, strict=True)]
    (folder / "clicks.csv").write_text("\n".join(["user,item", *lines]), encoding="utf-8")
    return _searched(folder / "clicks.csv", folder / "run", model="mf")


@pytest.fixture(scope="session")
def peculiar_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of LightGCN on a folder with users that are hard to serve.

    User u's id is 10 u + 7 and item i's 3 i + 5. User 0 has test pairs only, user 1 has the
    whole catalogue, user 2 all but the last 3 items, of which 2 are tested on.
    """
    folder = tmp_path_factory.mktemp("peculiar")
    num_users, num_items = 40, 30
    likes = np.random.default_rng(5).random((num_users, num_items)) < 0.5
    tested = likes & (np.random.default_rng(6).random(likes.shape) < 0.25)
    likes[0], tested[0] = False, np.arange(num_items) % 7 == 0
    likes[1], tested[1] = True, False
    likes[2], tested[2] = np.arange(num_items) < 27, np.arange(num_items) > 27
    for name, pairs in (("train", likes & ~tested), ("test", tested)):
        lines = [
            " ".join(map(str, [10 * user + 7, *(3 * np.flatnonzero(row) + 5)]))
            for user, row in enumerate(pairs)
            if row.any()
        ]
        (folder / f"{name}.txt").write_text("\n".join(lines), encoding="utf-8")
    return _searched(folder, folder / "run", model="lightgcn")


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LightGCN folder of 60 users and 80 items."""
    from small_runs import write_small_data

    return write_small_data(tmp_path_factory.mktemp("small") / "small")


@pytest.fixture(scope="session")
def whole_run(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run from Python with `small_runs.WHOLE`, never interrupted."""
    from small_runs import WHOLE

    import autosample_tf

    run_dir = tmp_path_factory.mktemp("whole") / "run"
    autosample_tf.search(str(small_data), WHOLE, run_dir=run_dir)
    return run_dir


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A local HTTP server that answers as the test has it."""
    from misbehaving_server import serving

    monkeypatch.setenv("NO_PROXY", "*")
    with serving() as running:
        yield running


class Outcome(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `autosample-tf …` in this process."""
    from autosample_tf.cli import main

    def run(*arguments: object) -> Outcome:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments], prog_name="autosample-tf")
        return Outcome(ended.value.code or 0, *capsys.readouterr())

    return run


def _searched(dataset: Path, run_dir: Path, *, model: str) -> Path:
    """The run folder of a short search, which can be read again by the dataset's path."""
    import autosample_tf

    settings = autosample_tf.Settings(
        model=model,
        layers=2,
        dim=8,
        samplers=("rns", "dns:pool=8"),
        time_samplers=False,
        search_epochs=2,
        retrain_epochs=2,
        batch_size=32,
        top_k=(10, 5),
    )
    autosample_tf.search(str(dataset), settings, run_dir=run_dir)
    return run_dir
