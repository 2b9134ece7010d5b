"""Fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

TEST_DATA_VARIABLE = "AUTOSAMPLE_TF_TEST_DATA"


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
