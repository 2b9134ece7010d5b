"""The JSON file in a dataset's folder that tells what its other files are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autosample_tf.errors import InputError, expected

# What reading a file that is not there, or not as it was written, ends in.
_SIGNS_OF_DAMAGE = (
    OSError, RecursionError, ValueError, TypeError, LookupError, AttributeError,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class FolderKind:
    """Folders that one command writes, each with a manifest.

    Attributes:
      manifest: the name of its file, by which such a folder is known.
      version: its `schema_version`.
      command: what writes them, as `data convert`.
      remedy: what helps where one is damaged.
    """

    manifest: str
    version: int
    command: str
    remedy: str

    def write_manifest(self, folder: Path, told: Mapping[str, Any]) -> None:
        """Writes it; whatever JSON does not know becomes text."""
        text = json.dumps({"schema_version": self.version, **told}, indent=2, default=str)
        (folder / self.manifest).write_text(text + "\n", encoding="utf-8")

    def read_manifest(self, folder: Path) -> dict[str, Any]:
        """What it tells.

        Raises:
          InputError: if it is not there, or no manifest of this version.
        """
        with self.checked(folder):
            manifest = json.loads((folder / self.manifest).read_text(encoding="utf-8"))
            if (version := manifest["schema_version"]) != self.version:
                raise self.refused(folder, f"schema_version {version!r}")
        return manifest

    @contextmanager
    def checked(self, folder: Path) -> Iterator[None]:
        """Whatever goes wrong meanwhile is told as the folder's fault."""
        try:
            yield
        except InputError:
            raise
        except _SIGNS_OF_DAMAGE as error:
            raise self.refused(folder, f"{type(error).__name__}: {error}") from None

    def refused(self, folder: Path, what: str) -> InputError:
        """The error that tells what is wrong with a folder."""
        return expected(
            f"a dataset as `autosample-tf {self.command}` writes it in {folder}",
            received=what,
            remedy=self.remedy,
        )
