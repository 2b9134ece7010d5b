"""Files that may be compressed, told by their names: .gz, .zst, .bz2."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from autosample_tf.errors import as_pyarrow_says, expected

if TYPE_CHECKING:
    import pyarrow

_CODECS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}


def extension(path: Path) -> str:
    """The extension in lower case, that of the compression left out: `.csv` of `a.CSV.gz`."""
    return bare(path).suffix.lower()


def bare(path: Path) -> Path:
    """The path without a compression's extension."""
    return path.with_suffix("") if path.suffix.lower() in _CODECS else path


@contextmanager
def open_bytes(path: Path) -> Iterator[pyarrow.NativeFile]:
    """A file's bytes, decompressed.

    Raises:
      InputError: where the compressed data is cut off or broken.
    """
    import pyarrow

    codec = _CODECS.get(path.suffix.lower())
    try:
        with pyarrow.input_stream(str(path), compression=codec) as stream:
            yield stream
    except OSError as error:
        if error.errno is not None or codec is None:
            raise  # the system's: no such file, no right to read it
        raise expected(
            f"whole {codec} data in {path}",
            received=as_pyarrow_says(error),
            remedy="Get the file again, or give it uncompressed.",
        ) from None


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """A file's text, decompressed, without a byte order mark; what is no UTF-8 is U+FFFD."""
    with (
        open_bytes(path) as stream,
        io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline="") as text,
    ):
        yield text
