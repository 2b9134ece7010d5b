"""A dataset as a folder of arrays that are read by mapping them into memory.

What `data convert` writes, and what the cache keeps: ids, splits and notes come back as they
were. `dataset.json` tells counts, and the size and SHA-256 of every other file; those are
.npy arrays:

    user_ids, item_ids           [num_ids, longest] the ids' characters, as code points
    NAME.offsets, NAME.items     the rows of the split NAME, and of `given` negatives
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autosample_tf.errors import InputError, expected
from autosample_tf.interactions import Dataset, Interactions
from autosample_tf.whole_files import whole_folder

MANIFEST = "dataset.json"
SCHEMA_VERSION = 1
_SPLITS = ("train", "valid", "test", "given")


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
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": dataset.name,
            "num_items": dataset.num_items,
            "counts": dataset.counts(),
            "notes": dict(dataset.notes),
            "time_span": dataset.time_span,
            "source": source,
            "files": {path.name: _fingerprint(path) for path in sorted(partial.iterdir())},
        }
        text = json.dumps(manifest, indent=2, default=str) + "\n"
        (partial / MANIFEST).write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the folder's `dataset.json` says.

    Raises:
      InputError: if it is not there, or no manifest of this version.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = manifest["schema_version"]
    except (OSError, ValueError, RecursionError, TypeError, KeyError) as error:
        raise _broken(folder, f"{type(error).__name__}: {error}") from None
    if version != SCHEMA_VERSION:
        raise _broken(folder, f"schema_version {version!r}")
    return manifest


def read_dataset(folder: Path, *, name: str | None = None) -> Dataset:
    """Reads what `write_dataset` wrote; the arrays stay in the files until they are used.

    Args:
      folder: the dataset's.
      name: what to call it; None: as it was called.

    Raises:
      InputError: if a file is missing or is not as it was written.
    """
    manifest = read_manifest(folder)
    try:
        for file, fingerprint in manifest["files"].items():
            if _fingerprint(folder / file) != fingerprint:
                raise _broken(folder, f"another {file} than was written")
        return _assembled(folder, manifest, name or manifest["name"])
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise _broken(folder, f"{type(error).__name__}: {error}") from None


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


def _broken(folder: Path, what: str) -> InputError:
    return expected(
        f"a dataset as `autosample-tf data convert` writes it in {folder}",
        received=what,
        remedy="Convert it again.",
    )
