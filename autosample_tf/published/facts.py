"""The published datasets: what their files are, where they are looked for, and checking them.

The facts of each travel with it in `datasets/<folder>/`: `facts.json` (counts, and the MD5
by which a file is recognised wherever it came from) and TFDS's own `checksums.tsv` (the
addresses that were seen to hold these files, with size and SHA-256). No TensorFlow.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from autosample_tf.errors import InputError, expected, unknown

PUBLISHED = (
    "amazon-baby-dens",
    "amazon-beauty-m1",
    "amazon-book",
    "amazon-book-from-test",
    "amazon-book-kgat",
    "gowalla",
    "lastfm-lightgcn",
    "ml-100k",
    "ml-1m-m1",
    "yelp2018",
)
DATA_VARIABLE = "AUTOSAMPLE_TF_DATA"

_INSTALLED = Path(__file__).parents[1] / "datasets"
_CHECKOUT = Path(__file__).parents[2] / "datasets"
# Inside the package in a wheel; beside it in a checkout, and so in an editable install.
FOLDER = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a published dataset.

    Attributes:
      pairs: how many pairs it has.
      md5: in hexadecimal; several where it is passed on in forms that hold the same pairs.
    """

    pairs: int
    md5: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a file was seen to be.

    Attributes:
      url: the address.
      size: in bytes.
      sha256: in hexadecimal.
    """

    url: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a published dataset, and checked when it is read.

    Attributes:
      name: what `load` calls it.
      title: one line on what it holds.
      users: how many users.
      items: how many items.
      files: its files, by name.
      source: where the files came from, in words.
      licence: what is known of the terms.
      archive: the URL of an archive that has the files, or None.
      addresses: the URL of each file, by its name; empty where none could be verified.
    """

    name: str
    title: str
    users: int
    items: int
    files: Mapping[str, File]
    source: str
    licence: str
    archive: str | None = None
    addresses: Mapping[str, Address] = dataclasses.field(default_factory=dict)

    @property
    def pairs(self) -> int:
        """How many pairs the files have together."""
        return sum(file.pairs for file in self.files.values())

    @property
    def can_be_fetched(self) -> bool:
        """Whether every file has an address that was verified."""
        return self.archive is not None or self.addresses.keys() == self.files.keys()


def facts(name: str) -> Facts:
    """The facts of a published dataset.

    Raises:
      InputError: if no published dataset has that name.
    """
    if name not in PUBLISHED:
        raise unknown("published dataset", name, PUBLISHED)
    folder = FOLDER / folder_name(name)
    values = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
    files = {file: File(own["pairs"], tuple(own["md5"])) for file, own in values["files"].items()}
    return Facts(**{**values, "files": files}, addresses=_addresses(folder / "checksums.tsv"))


def folder_name(name: str) -> str:
    """The folder of a dataset in `datasets/`, which is its name in TFDS, too."""
    return name.replace("-", "_")


def _addresses(table: Path) -> dict[str, Address]:
    """The rows of TFDS's table of URL, size, SHA-256 and file name."""
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", newline="") as rows:
        return {
            name: Address(url, int(size), sha256)
            for url, size, sha256, name in csv.reader(rows, delimiter="\t")
        }


def data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    """Where published datasets are looked for.

    Args:
      data_dir: the place, if one is named; None takes the environment's AUTOSAMPLE_TF_DATA,
        else ~/.cache/autosample-tf.
    """
    default = os.environ.get(DATA_VARIABLE) or "~/.cache/autosample-tf"
    return Path(data_dir if data_dir is not None else default).expanduser()


def own_folder(name: str, files: Mapping[str, object], data_dir: Path) -> Path:
    """The folder of a dataset: of its name, or `data_dir` itself if a file lies there."""
    own = data_dir / name
    has_one = (
        place for place in (own, data_dir) if any((place / file).is_file() for file in files)
    )
    return next(has_one, own)


def checked_folder(known: Facts, data_dir: Path) -> Path:
    """The folder with the dataset's files, whose checksums are right.

    Args:
      known: the dataset.
      data_dir: where its files are, directly or in a folder of its name.

    Raises:
      InputError: if a file is missing, or is another one than the published.
    """
    folder = own_folder(known.name, known.files, data_dir)
    for name in known.files:
        if not (folder / name).is_file():
            raise _missing(known, folder / name)
        check_file(known, name, folder / name)
    return folder


def check_file(known: Facts, name: str, path: Path, *, remedy: str | None = None) -> None:
    """Refuses a file that is not the dataset's file of that name.

    Args:
      known: the dataset.
      name: the file's.
      path: where it is.
      remedy: what to do if it is another; None: get the right one.
    """
    wanted, received = known.files[name].md5, digest(path, "md5")
    if received not in wanted:
        raise expected(
            f"the published {name} of {known.name}, whose MD5 is {' or '.join(wanted)}, at {path}",
            received=f"a file whose MD5 is {received}",
            remedy=remedy
            or f"{how_to_get(known)}, or give the folder's path as the dataset to use other files.",
        )


def digest(path: Path, algorithm: str) -> str:
    """A file's checksum in hexadecimal."""
    with path.open("rb") as file:
        hashed = hashlib.new(algorithm, usedforsecurity=False)
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.hexdigest()


def how_to_get(known: Facts) -> str:
    """What to do for a dataset's files, without a full stop."""
    if known.can_be_fetched:
        return f"Run `autosample-tf data fetch {known.name}` (from {known.source})"
    return f"Get it from {known.source} (no address of it could be verified, so none is built in)"


def wanted_files(known: Facts) -> str:
    """The files with their checksums, and the counts, as messages tell them."""
    files = ", ".join(
        f"{name} ({file.pairs} pairs, MD5 {' or '.join(file.md5)})"
        for name, file in known.files.items()
    )
    return f"{files}; {known.users} users, {known.items} items"


def _missing(known: Facts, path: Path) -> InputError:
    here = f" The folder here is ./{known.name}." if Path(known.name).exists() else ""
    return expected(
        f"{known.name}'s files in {path.parent}: {wanted_files(known)}",
        received=f"no {path.name} there",
        remedy=f"{how_to_get(known)}, or put them there or elsewhere, and name the place by "
        f"--data-dir (data_dir=… in Python) or {DATA_VARIABLE}.{here}",
    )
