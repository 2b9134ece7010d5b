"""Downloading one file over HTTP: resumed, retried with back-off, verified, atomic.

The bytes gather in `<file>.part`, which becomes the file once it has been verified: what was
interrupted never looks whole, and the next call goes on where it stopped. `requests` speaks
HTTP (redirects, proxies, certificates); this module adds what that leaves to its callers.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from autosample_tf.errors import InputError, expected
from autosample_tf.published.facts import digest

if TYPE_CHECKING:
    from requests import RequestException, Response

_BLOCK = 1 << 16  # bytes read at once
_LARGEST = 1 << 30  # bytes of a file, whatever a server says
_MOST_REDIRECTS = 5
_PASSING = (408, 425, 429, 500, 502, 503, 504)  # statuses of faults that may soon be over

Report = Callable[[str, int, "int | None"], None]  # a file's name, its bytes so far, in all


@dataclasses.dataclass(frozen=True)
class Patience:
    """How long a server is borne with.

    Attributes:
      tries: how often a download is begun or gone on with.
      pause: seconds before the second try; each later pause is twice as long.
      longest_pause: seconds, also where the server asks for more.
      connect: seconds until a connection stands.
      stall: seconds within which `least` bytes have to come.
      least: bytes.
    """

    tries: int = 6
    pause: float = 1.0
    longest_pause: float = 60.0
    connect: float = 15.0
    stall: float = 30.0
    least: int = 1024


PATIENCE = Patience()


class _Passing(Exception):
    """A fault that another try may not meet.

    Args:
      what: what happened.
      pause: seconds that the server asks to wait.
    """

    def __init__(self, what: str, pause: float = 0.0):
        super().__init__(what)
        self.pause = pause


def download(
    url: str,
    path: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    report: Report | None = None,
    patience: Patience = PATIENCE,
) -> None:
    """Downloads a file to a path.

    Args:
      url: where from, http or https; redirects are followed.
      path: where to, in a folder that exists.
      size: how many bytes the file has, if that is known.
      sha256: its SHA-256 in hexadecimal; None: the caller checks what came.
      report: is told how far it is.
      patience: with the server.

    Raises:
      InputError: if the file could not be had, or is another than expected. What came of it
        is kept for the next call, unless it is wrong.
    """
    part = path.with_name(path.name + ".part")
    for is_last in (False, True):
        is_pieced = _fill(url, part, size, report, patience)
        received = digest(part, "sha256") if sha256 else None
        if received == sha256:
            part.replace(path)
            return
        part.unlink()
        # A piece may be of another file: then once more, from the start.
        if is_last or not is_pieced:
            break
    raise expected(
        f"the file whose SHA-256 is {sha256} at {url}",
        received=f"one whose SHA-256 is {received}",
        remedy="It has been deleted: get the file elsewhere, or try again later.",
    )


def _fill(
    url: str, part: Path, size: int | None, report: Report | None, patience: Patience
) -> bool:
    """Adds to the part until it is whole; says whether it may be of several responses."""
    import requests  # takes a tenth of a second that other commands need not wait

    pause, is_pieced = patience.pause, part.is_file()
    for tries_left in reversed(range(patience.tries)):
        try:
            _go_on(url, part, size, report, patience)
            break
        except (_Passing, requests.RequestException) as error:
            fault = error if isinstance(error, _Passing) else _fault(url, error)
            if not tries_left:
                raise expected(
                    f"the file at {url}",
                    received=f"{fault}, at the last of {patience.tries} tries; "
                    f"{_size(part)} bytes of it are kept",
                    remedy="Run it again to go on where it stopped, or get the file elsewhere.",
                ) from error
            time.sleep(min(max(pause, fault.pause), patience.longest_pause))
            pause, is_pieced = 2 * pause, part.is_file()
    return is_pieced


def _go_on(
    url: str, part: Path, size: int | None, report: Report | None, patience: Patience
) -> None:
    """Asks once for what the part lacks, and adds what comes."""
    if size is not None and _size(part) > size:
        part.unlink()  # it is no part of this file
    kept = _size(part)
    if kept == size:
        return
    with _response(url, kept, patience) as response:
        begin, total = _begin(response), _whole_size(response)
        if response.status_code == 416 and total == kept:
            return  # there is nothing beyond what was kept
        if begin != kept:
            part.unlink(missing_ok=True)  # it cannot be gone on with
        if begin not in (0, kept):
            raise _Passing(f"status {response.status_code} for the bytes from {kept}")
        total = total if size is None else size
        _add(response, part, total, report, patience)
    if total is not None and _size(part) < total:
        raise _Passing(f"{_size(part)} of {total} bytes")


def _add(
    response: Response, part: Path, total: int | None, report: Report | None, patience: Patience
) -> None:
    """Appends a response's body to the part.

    Raises:
      InputError: if the file is longer than it has to be; the part is deleted.
    """
    done, longest = _size(part), _LARGEST if total is None else min(total, _LARGEST)
    with part.open("ab", buffering=0) as file:  # a killed process has kept all that came
        for block in _blocks(response, patience):
            file.write(block)
            done += len(block)
            if report:
                report(part.stem, done, total)
            if done > longest:
                break
    if done > longest:
        part.unlink()
        raise expected(
            f"{longest} bytes at most at {response.url}",
            received="more",
            remedy="Get the file elsewhere: this is another one.",
        )


@contextmanager
def _response(url: str, begin: int, patience: Patience) -> Iterator[Response]:
    """The response to a request for the bytes from `begin`, its status 200, 206 or 416.

    Raises:
      InputError: if the server says that there is no such file, or none for us.
      _Passing: if it says that it cannot answer now.
    """
    import requests

    headers = {"Accept-Encoding": "identity"}  # lengths and ranges of the file's own bytes
    if begin:
        headers["Range"] = f"bytes={begin}-"
    with requests.Session() as session:
        for _ in range(_MOST_REDIRECTS + 1):
            request = session.prepare_request(requests.Request("GET", url, headers=headers))
            own = session.merge_environment_settings(request.url, {}, True, None, None)  # proxies
            timeout = (patience.connect, patience.stall)
            # Not session.get, which reads the body of a redirect, however long.
            with session.get_adapter(request.url).send(request, timeout=timeout, **own) as response:
                target = session.get_redirect_target(response)
                if target is None:
                    _check_status(response)
                    yield response
                    return
                url = urljoin(url, target)
    raise _refused(url, f"more than {_MOST_REDIRECTS} redirects")


def _check_status(response: Response) -> None:
    status = response.status_code
    if status in _PASSING:
        asked = response.headers.get("Retry-After", "")
        raise _Passing(f"status {status}", float(asked) if asked.isdigit() else 0.0)
    if status not in (200, 206, 416):
        raise _refused(response.url, f"status {status}")


def _blocks(response: Response, patience: Patience) -> Iterator[bytes]:
    """A response's bytes as they come.

    Raises:
      _Passing: if they stop before their end, or come too slowly.
    """
    from urllib3.exceptions import HTTPError

    since, came = time.monotonic(), 0
    try:
        # read1 waits for some bytes, not for a whole block, so that slow ones are noticed
        while block := response.raw.read1(_BLOCK):
            yield block
            came += len(block)
            if time.monotonic() - since > patience.stall:
                if came < patience.least:
                    raise _Passing(f"{came} bytes in {patience.stall:g} seconds")
                since, came = time.monotonic(), 0
    except (HTTPError, OSError) as error:
        raise _Passing(f"a connection that broke off ({type(error).__name__})") from error


def _fault(url: str, error: RequestException) -> _Passing:
    """What a request that failed comes to.

    Raises:
      InputError: if trying again is of no use.
    """
    import requests
    from urllib3.exceptions import NameResolutionError

    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(reason, NameResolutionError):
        raise _refused(url, "no network, or no such host") from error
    lasting = isinstance(error, (requests.exceptions.SSLError, requests.exceptions.ProxyError))
    if not lasting and isinstance(error, (requests.ConnectionError, requests.Timeout)):
        return _Passing(f"no connection ({type(reason or error).__name__})")
    raise _refused(url, f"{type(error).__name__}: {error}") from error


def _refused(url: str, received: str) -> InputError:
    return expected(
        f"the file at {url}",
        received=received,
        remedy="Check the network, or get the file elsewhere.",
    )


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _begin(response: Response) -> int:
    """The place in the file of a response's first byte; -1 where it has none of the file."""
    if response.status_code == 200:
        return 0
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _whole_size(response: Response) -> int | None:
    """The size of the whole file as the response tells it, or None."""
    if response.status_code == 200:
        length = response.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None
    found = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else None
