"""A local HTTP server that answers as each test has it: stalls, cuts off, redirects, lies."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """A request, with what answers are made of."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.close_connection = True
        self.server.asked.append((self.path, self.headers.get("Range")))
        answers = self.server.answers[self.path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]  # the last one stays
        with suppress(BrokenPipeError, ConnectionResetError):  # the client may have gone
            answer(self)

    @property
    def begin(self) -> int:
        """Where the range that is asked for begins; 0: the whole file is."""
        found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(found[1]) if found else 0

    def start(self, status: int, **headers: object) -> None:
        self.send_response(status)
        self.send_header("Connection", "close")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Keeps quiet."""


class Server(ThreadingHTTPServer):
    """The server: `answers` by path, used up one by one, and what was `asked`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.over = threading.Event()  # ends what stalls

    def url(self, path: str, *answers: Answer) -> str:
        """Has a path answered, and gives its URL."""
        self.answers[path] = list(answers)
        return f"http://127.0.0.1:{self.server_port}{path}"


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        server.shutdown()
        server.server_close()
        thread.join()


def whole(body: bytes) -> Answer:
    """A good server, which knows ranges."""

    def answer(request: Request) -> None:
        rest = body[request.begin :]
        if request.begin and not rest:
            request.start(416, Content_Range=f"bytes */{len(body)}", Content_Length=0)
        elif request.begin:
            span = f"bytes {request.begin}-{len(body) - 1}/{len(body)}"
            request.start(206, Content_Range=span, Content_Length=len(rest))
        else:
            request.start(200, Content_Length=len(body))
        request.wfile.write(rest)

    return answer


def without_ranges(body: bytes) -> Answer:
    """Sends everything, whatever is asked."""

    def answer(request: Request) -> None:
        request.start(200, Content_Length=len(body))
        request.wfile.write(body)

    return answer


def cut_off(body: bytes, sent: int) -> Answer:
    """Promises the rest of the body, and sends so many bytes of it."""

    def answer(request: Request) -> None:
        rest = body[request.begin :]
        if request.begin:
            span = f"bytes {request.begin}-{len(body) - 1}/{len(body)}"
            request.start(206, Content_Range=span, Content_Length=len(rest))
        else:
            request.start(200, Content_Length=len(rest))
        request.wfile.write(rest[:sent])

    return answer


def promising(body: bytes, length: int | None) -> Answer:
    """Sends the body and says that it has another length, or none."""

    def answer(request: Request) -> None:
        request.start(200, **({} if length is None else {"Content_Length": length}))
        request.wfile.write(body)

    return answer


def stalling(body: bytes, sent: int) -> Answer:
    """Sends so many bytes, then nothing more, and keeps the connection."""

    def answer(request: Request) -> None:
        request.start(200, Content_Length=len(body))
        request.wfile.write(body[:sent])
        request.server.over.wait(60)

    return answer


def dripping(body: bytes, pause: float) -> Answer:
    """Sends a byte at a time."""

    def answer(request: Request) -> None:
        request.start(200, Content_Length=len(body))
        for byte in body:
            request.wfile.write(bytes([byte]))
            if request.server.over.wait(pause):
                return

    return answer


def elsewhere(location: str) -> Answer:
    """Redirects."""
    return status(302, Location=location)


def status(code: int, **headers: object) -> Answer:
    """A status without a body."""
    return lambda request: request.start(code, Content_Length=0, **headers)
