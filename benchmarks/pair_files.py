"""The pairs of a dataset as files that every worker can read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from autosample_tf.interactions import Dataset


def write_pairs(data: Dataset, folder: Path) -> None:
    """Writes `pairs.npz`, and RecBole's files of the same splits under `pairs/`.

    Args:
      data: with a validation split.
      folder: an empty one.
    """
    arrays: dict[str, Any] = {
        "num_users": np.array(data.num_users),
        "num_items": np.array(data.num_items),
    }
    (folder / "pairs").mkdir()
    for name, split in data.splits.items():
        arrays |= {f"{name}_users": split.users, f"{name}_items": split.items}
        np.savetxt(
            folder / "pairs" / f"pairs.{name}.inter",
            np.stack([split.users, split.items], axis=1),
            fmt="%d",
            delimiter="\t",
            header="user_id:token\titem_id:token",
            comments="",
        )
    np.savez(folder / "pairs.npz", **arrays)
