"""A dataset as a folder of arrays that are read by mapping them into memory.

What `data convert` writes, and what the cache keeps: ids, splits and notes come back as they
were. `dataset.json` tells counts, and the size and SHA-256 of every other file; those are
.npy arrays:

    user_ids, item_ids           [num_ids, longest] the ids' characters, as code points
    NAME.offsets, NAME.items     the rows of the split NAME, and of `given` negatives
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autosample_tf.interactions import SPLITS, Dataset, Interactions
from autosample_tf.reading.manifests import FolderKind
from autosample_tf.whole_files import whole_folder

CONVERTED_FOLDER = FolderKind("dataset.json", 1, "data convert", "Convert it again.")
_SPLITS = (*SPLITS, "given")


def write_dataset(dataset: Dataset, folder: Path, *, source: Mapping[str, Any]) -> None:
    """Writes a dataset whole or not at all.

    Args:
      dataset: what to write.
      folder: where, which must not be there yet; of several writers one wins.
      source: what the dataset was made from, kept in the manifest.

    Raises:
      InputError: if something is at the folder's place.
    """
    with whole_folder(folder) as partial:
        for name, array in _arrays(dataset).items():
            np.save(partial / name, array, allow_pickle=False)
        told = {
            "name": dataset.name,
            "num_items": dataset.num_items,
            "counts": dataset.counts(),
            "notes": dict(dataset.notes),
            "time_span": dataset.time_span,
            "source": source,
            "files": {path.name: _fingerprint(path) for path in sorted(partial.iterdir())},
        }
        CONVERTED_FOLDER.write_manifest(partial, told)


def read_dataset(folder: Path, *, name: str | None = None) -> Dataset:
    """Reads what `write_dataset` wrote; the arrays stay in the files until they are used.

    Args:
      folder: the dataset's.
      name: what to call it; None: as it was called.

    Raises:
      InputError: if a file is missing or is not as it was written.
    """
    manifest = CONVERTED_FOLDER.read_manifest(folder)
    with CONVERTED_FOLDER.checked(folder):
        for file, fingerprint in manifest["files"].items():
            if _fingerprint(folder / file) != fingerprint:
                raise CONVERTED_FOLDER.refused(folder, f"another {file} than was written")
        return _assembled(folder, manifest, name or manifest["name"])


def _assembled(folder: Path, manifest: Mapping[str, Any], name: str) -> Dataset:
    arrays = {
        file.removesuffix(".npy"): np.load(folder / file, mmap_mode="r", allow_pickle=False)
        for file in manifest["files"]
    }
    rows = {
        split: Interactions(
            arrays[f"{split}.offsets"].view(np.ndarray),
            arrays[f"{split}.items"].view(np.ndarray),
            manifest["num_items"],
        )
        for split in _SPLITS
        if f"{split}.items" in arrays
    }
    span = manifest["time_span"]
    return Dataset(
        name=name,
        user_ids=text_of(arrays["user_ids"]),
        item_ids=text_of(arrays["item_ids"]),
        notes=manifest["notes"],
        time_span=None if span is None else (span[0], span[1]),
        **rows,
    )


def _arrays(dataset: Dataset) -> dict[str, np.ndarray]:
    """The arrays by the names of their files."""
    arrays = {
        "user_ids.npy": code_points(dataset.user_ids),
        "item_ids.npy": code_points(dataset.item_ids),
    }
    splits = dataset.splits | ({} if dataset.given is None else {"given": dataset.given})
    for split, pairs in splits.items():
        rows = pairs.in_memory()
        arrays[f"{split}.offsets.npy"] = rows.offsets
        arrays[f"{split}.items.npy"] = rows.items
    return arrays


def code_points(ids: np.ndarray) -> np.ndarray:
    """[num_ids, longest] unsigned integers, a byte each where the characters allow it."""
    points = np.ascontiguousarray(ids, np.str_).view(np.uint32).reshape(len(ids), -1)
    return points.astype(np.min_scalar_type(points.max(initial=0)))


def text_of(points: np.ndarray) -> np.ndarray:
    """The inverse of `code_points`."""
    width = max(points.shape[1], 1)
    return np.ascontiguousarray(points, np.uint32).view(f"<U{width}").reshape(len(points))


def _fingerprint(path: Path) -> dict[str, Any]:
    content = np.memmap(path, np.uint8, mode="r")
    return {"bytes": len(content), "sha256": hashlib.sha256(content.data).hexdigest()}
