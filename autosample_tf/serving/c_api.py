"""TensorFlow's own SavedModel loader, called without TensorFlow's Python.

TensorFlow Serving is made of this loader and of sessions as this one. By ctypes it needs the
shared libraries of the installed wheel and nothing else, so this file also runs as a script,
`python -I -S c_api.py`, in a process that cannot see a single installed package: the requests
come as JSON on stdin, the answers go as JSON to stdout.

Names and layouts are those of TensorFlow's `c/c_api.h` and `core/platform/ctstring.h`.
"""

from __future__ import annotations

import ctypes
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_POINTER, _SIZE, _TEXT, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int
_SIGNATURES: tuple[tuple[str, Any, list[Any]], ...] = (
    ("TF_NewStatus", _POINTER, []),
    ("TF_DeleteStatus", None, [_POINTER]),
    ("TF_GetCode", _INT, [_POINTER]),
    ("TF_Message", _TEXT, [_POINTER]),
    ("TF_NewGraph", _POINTER, []),
    ("TF_DeleteGraph", None, [_POINTER]),
    ("TF_NewSessionOptions", _POINTER, []),
    ("TF_DeleteSessionOptions", None, [_POINTER]),
    (
        "TF_LoadSessionFromSavedModel",
        _POINTER,
        [_POINTER, _POINTER, _TEXT, _POINTER, _INT, _POINTER, _POINTER, _POINTER],
    ),
    ("TF_CloseSession", None, [_POINTER, _POINTER]),
    ("TF_DeleteSession", None, [_POINTER, _POINTER]),
    ("TF_GraphOperationByName", _POINTER, [_POINTER, _TEXT]),
    ("TF_AllocateTensor", _POINTER, [_INT, _POINTER, _INT, _SIZE]),
    ("TF_DeleteTensor", None, [_POINTER]),
    ("TF_TensorType", _INT, [_POINTER]),
    ("TF_TensorData", _POINTER, [_POINTER]),
    ("TF_NumDims", _INT, [_POINTER]),
    ("TF_Dim", ctypes.c_int64, [_POINTER, _INT]),
    ("TF_StringInit", None, [_POINTER]),
    ("TF_StringCopy", None, [_POINTER, _TEXT, _SIZE]),
    ("TF_StringGetDataPointer", _POINTER, [_POINTER]),
    ("TF_StringGetSize", _SIZE, [_POINTER]),
    (
        "TF_SessionRun",
        None,
        [_POINTER] * 4 + [_INT, _POINTER, _POINTER, _INT, _POINTER, _INT, _POINTER, _POINTER],
    ),
)
_STRING_BYTES = 24  # of a TF_TString
_TYPES: dict[str, tuple[int, Any]] = {  # TF_DataType of a dtype by name, and what holds a value
    "float32": (1, ctypes.c_float),
    "int32": (3, ctypes.c_int32),
    "string": (7, ctypes.c_char * _STRING_BYTES),
    "int64": (9, ctypes.c_int64),
    "bool": (10, ctypes.c_bool),
}
_KIND_OF_TYPE = dict(_TYPES.values())
_STRING = _TYPES["string"][0]


class _Place(ctypes.Structure):
    """A TF_Output: an operation, and which of its outputs."""

    _fields_ = (("operation", _POINTER), ("index", _INT))


def libraries(folder: Path) -> ctypes.CDLL:
    """Loads TensorFlow's shared libraries, those of Linux or macOS.

    Args:
      folder: the installed `tensorflow`'s, `tf.sysconfig.get_lib()`.

    Raises:
      FileNotFoundError: if they are not there.
    """
    for name in ("framework", "cc"):
        found = sorted(folder.glob(f"libtensorflow_{name}.*"))
        if not found:
            raise FileNotFoundError(f"no libtensorflow_{name} in {folder}")
        library = ctypes.CDLL(str(found[0]))
    for name, result, arguments in _SIGNATURES:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class Tensor:
    """A TF_Tensor.

    Args:
      library: what `libraries` gave.
      pointer: of the TF_Tensor, which is deleted with this object.
    """

    def __init__(self, library: ctypes.CDLL, pointer: int):
        self._library, self.pointer = library, pointer

    def __del__(self) -> None:
        self._library.TF_DeleteTensor(self.pointer)

    @classmethod
    def of(
        cls, library: ctypes.CDLL, values: Sequence[Any], shape: Sequence[int], dtype: str
    ) -> Tensor:
        """A tensor of the values in row-major order, text or numbers; `dtype` by name."""
        code, kind = _TYPES[dtype]
        lengths, size = (ctypes.c_int64 * len(shape))(*shape), ctypes.sizeof(kind)
        pointer = library.TF_AllocateTensor(code, lengths, len(shape), size * len(values))
        tensor = cls(library, pointer)
        if code != _STRING:
            (kind * len(values)).from_address(tensor._data)[:] = values
            return tensor
        for place, text in enumerate(values):
            data = text.encode()
            library.TF_StringInit(tensor._string(place))
            library.TF_StringCopy(tensor._string(place), data, len(data))
        return tensor

    @property
    def shape(self) -> tuple[int, ...]:
        library, pointer = self._library, self.pointer
        return tuple(library.TF_Dim(pointer, axis) for axis in range(library.TF_NumDims(pointer)))

    def values(self) -> list[Any]:
        """All of them, in row-major order."""
        number = math.prod(self.shape)
        code = self._library.TF_TensorType(self.pointer)
        if code != _STRING:
            return list((_KIND_OF_TYPE[code] * number).from_address(self._data))
        return [self._text(self._string(place)) for place in range(number)]

    def tolist(self) -> Any:
        """Nested as the shape is."""
        values = self.values()
        for length in self.shape[:0:-1]:
            rows = len(values) // length if length else math.prod(self.shape[:-1])
            values = [values[row * length : (row + 1) * length] for row in range(rows)]
        return values if self.shape else values[0]

    @property
    def _data(self) -> int:
        return self._library.TF_TensorData(self.pointer) or 0

    def _string(self, place: int) -> int:
        return self._data + _STRING_BYTES * place

    def _text(self, string: int) -> str:
        data = self._library.TF_StringGetDataPointer(string)
        return ctypes.string_at(data, self._library.TF_StringGetSize(string)).decode()


class Session:
    """A SavedModel, loaded by its tag `serve`.

    Args:
      library: what `libraries` gave.
      folder: the SavedModel's.

    Raises:
      RuntimeError: with the loader's message, if it does not load.
    """

    def __init__(self, library: ctypes.CDLL, folder: Path):
        self._library = library
        self._status, self._graph = library.TF_NewStatus(), library.TF_NewGraph()
        options, tags = library.TF_NewSessionOptions(), (_TEXT * 1)(b"serve")
        self._session = library.TF_LoadSessionFromSavedModel(
            options, None, str(folder).encode(), tags, 1, self._graph, None, self._status
        )
        library.TF_DeleteSessionOptions(options)
        self._check()

    def close(self) -> None:
        """Gives the session's memory back."""
        self._library.TF_CloseSession(self._session, self._status)
        self._library.TF_DeleteSession(self._session, self._status)
        self._library.TF_DeleteGraph(self._graph)
        self._library.TF_DeleteStatus(self._status)

    def run(self, feeds: dict[str, Tensor], fetches: Sequence[str]) -> list[Tensor]:
        """The tensors named in `fetches`, those in `feeds` given: names as `op:0`.

        Raises:
          RuntimeError: with TensorFlow's message, if it refuses.
        """
        places = (_Place * len(feeds))(*map(self._place, feeds))
        given = (_POINTER * len(feeds))(*(tensor.pointer for tensor in feeds.values()))
        asked = (_Place * len(fetches))(*map(self._place, fetches))
        answers = (_POINTER * len(fetches))()
        self._library.TF_SessionRun(
            self._session, None, places, given, len(feeds), asked, answers, len(fetches),
            None, 0, None, self._status,
        )  # fmt: skip
        self._check()
        return [Tensor(self._library, pointer) for pointer in answers]

    def _place(self, name: str) -> _Place:
        operation, _, index = name.partition(":")
        found = self._library.TF_GraphOperationByName(self._graph, operation.encode())
        if not found:
            raise RuntimeError(f"no operation {operation} in the graph")
        return _Place(found, int(index))

    def _check(self) -> None:
        if self._library.TF_GetCode(self._status):
            raise RuntimeError(self._library.TF_Message(self._status).decode())


def main() -> None:
    """Answers the requests on stdin.

    They are `{"libraries", "folder", "calls"}`, a call being `{"feeds": {tensor: {"values",
    "shape", "dtype"}}, "fetches": {name: tensor}}`. An answer is `{name: values}`, nested,
    or `{"error": message}`.
    """
    asked = json.load(sys.stdin)
    library = libraries(Path(asked["libraries"]))
    session = Session(library, Path(asked["folder"]))
    answers = []
    for call in asked["calls"]:
        feeds = {name: Tensor.of(library, **given) for name, given in call["feeds"].items()}
        try:
            found = session.run(feeds, list(call["fetches"].values()))
        except RuntimeError as error:
            answers.append({"error": str(error)})
        else:
            answers.append(dict(zip(call["fetches"], (t.tolist() for t in found), strict=True)))
    json.dump(answers, sys.stdout)


if __name__ == "__main__":
    main()
