"""Taking files out of a .zip or .tar.gz that nobody vouches for.

Members are found by the last part of their names and written under it: no path of an archive
is ever used. All the same an archive that has a path leading outside, a link or a device, or
more than a bounded number of bytes or members, is refused: it is no dataset.
"""

from __future__ import annotations

import errno
import gzip
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, Any, NamedTuple

from autosample_tf.errors import InputError, expected
from autosample_tf.whole_files import whole

_MOST_BYTES = 1 << 29  # unpacked; the published archives have some 10^7
_MOST_MEMBERS = 10_000
# No room, no leave, or broken. Damaged archives lead to other errors of the system too.
_OF_THE_DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO,
)  # fmt: skip
_BROKEN = (
    *(OSError, EOFError, RuntimeError, NotImplementedError),  # cut short, encrypted, exotic
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error, UnicodeError),
)


class _Member(NamedTuple):
    """What an archive says of a member.

    Attributes:
      path: where in the archive.
      size: in bytes; no more than these are ever unpacked.
      is_plain: whether it is a file or folder, not a link or device.
      open: opens it; None for a folder.
    """

    path: PureWindowsPath  # which takes both kinds of slashes, and drives, for what they are
    size: int
    is_plain: bool
    open: Callable[[], IO[bytes]] | None


def unpack(archive: Path, names: Collection[str], accept: Callable[[str, Path], bool]) -> None:
    """Takes files out of an archive into the archive's own folder.

    Args:
      archive: a .zip or a .tar.gz, by whatever name.
      names: the files' names; members in any folder of the archive match.
      accept: says whether the file of a name, at a path, is the right one. What is not is
        deleted, and further members of that name are tried.

    Raises:
      InputError: if the archive is broken or dangerous. Files that were accepted stay.
    """
    left = set(names)
    seen = size = 0
    try:
        for member in _members(archive):
            seen, size = seen + 1, size + member.size
            _check(archive, member, seen, size)
            name = member.path.name
            if name not in left or member.open is None:
                continue
            path = archive.with_name(name)
            _copy(member.open, path)
            if accept(name, path):
                left.remove(name)
            else:
                path.unlink()
    except _BROKEN as error:
        if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
            raise  # no fault of the archive's
        raise _refused(archive, f"{type(error).__name__}: {error}") from error


def _copy(open_member: Callable[[], IO[bytes]], path: Path) -> None:
    """Writes a member to a path: the whole of it or nothing."""
    with whole(path) as part, open_member() as content, part.open("wb") as out:
        shutil.copyfileobj(content, out)


def _check(archive: Path, member: _Member, seen: int, size: int) -> None:
    if member.path.anchor or ".." in member.path.parts:
        raise _refused(archive, f"the path {str(member.path)!r}, which leads outside")
    if not member.is_plain:
        raise _refused(archive, f"{str(member.path)!r}, which is a link or a device")
    if seen > _MOST_MEMBERS:
        raise _refused(archive, f"more than {_MOST_MEMBERS} members")
    if size > _MOST_BYTES:
        raise _refused(archive, f"more than {_MOST_BYTES} bytes unpacked")


def _refused(archive: Path, received: str) -> InputError:
    return expected(
        f"an archive (.zip or .tar.gz) of plain files in {archive.name}",
        received=received,
        remedy="Get the files elsewhere: it is not unpacked.",
    )


def _members(archive: Path) -> Iterator[_Member]:
    return _zip_members(archive) if zipfile.is_zipfile(archive) else _tar_members(archive)


def _zip_members(archive: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)  # 0 where it was not made on Unix
            yield _Member(
                path=PureWindowsPath(info.filename),
                size=info.file_size,
                is_plain=kind in (0, stat.S_IFREG, stat.S_IFDIR),
                open=None if info.is_dir() else partial(opened.open, info),
            )


def _tar_members(archive: Path) -> Iterator[_Member]:
    with gzip.open(archive) as unzipped:
        bounded: Any = _Bounded(unzipped)
        with tarfile.open(fileobj=bounded, mode="r|") as opened:
            for info in opened:
                yield _Member(
                    path=PureWindowsPath(info.name),
                    size=info.size,
                    is_plain=info.isreg() or info.isdir(),
                    open=partial(opened.extractfile, info) if info.isreg() else None,
                )


class _Bounded:
    """A file that ends with an error beyond the bound: a tar's headers can be bombs, too."""

    def __init__(self, file: gzip.GzipFile):
        self._file, self._left = file, _MOST_BYTES

    def read(self, size: int) -> bytes:
        read = self._file.read(size)
        self._left -= len(read)
        if self._left < 0:
            raise OSError(f"more than {_MOST_BYTES} bytes unpacked")
        return read
