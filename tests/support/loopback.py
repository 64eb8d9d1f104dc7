"""A real HTTP server on loopback that serves what a test gives it, and fails as a test tells it to."""

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PIECE = 1 << 14


@dataclass
class Fault:
    """How one answer goes wrong: a status, a cut after some bytes, or a stop until ``gate`` is set."""

    status: int = 0
    headers: dict = field(default_factory=dict)
    cut_after: int | None = None
    gate: threading.Event | None = None


@dataclass
class Loopback:
    """What the server serves and what it was asked.

    ``files`` maps a path to bytes, or to a function of the query's fields; ``faults`` maps a path to the answers that
    go wrong, first in first out; ``etags``, ``ignores_range`` and ``ignores_if_range`` say how files are versioned;
    ``pause_s`` is a rest after every ``piece`` bytes, of a slow link; ``pauses`` maps a path to a rest after each byte.
    """

    url: str = ""
    files: dict = field(default_factory=dict)
    faults: dict = field(default_factory=dict)
    etags: dict = field(default_factory=dict)
    ignores_range: bool = False
    ignores_if_range: bool = False
    requests: list = field(default_factory=list)
    pause_s: float = 0.0
    piece: int = PIECE
    pauses: dict = field(default_factory=dict)

    def asked(self, path):
        """Headers of every request for a path."""
        return [headers for where, headers, _ in self.requests if where == path]


def _handler(state):  # noqa: C901 - a handler is a class of small methods
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.answer(urlsplit(self.path).query)

        def do_HEAD(self):
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self):
            self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

        def answer(self, query):
            path, fields = urlsplit(self.path).path, parse_qs(query)
            state.requests.append((path, dict(self.headers), fields))
            queue = state.faults.get(path, [])
            fault = queue.pop(0) if queue else Fault()
            if fault.status:
                self.reply(fault.status, b"a page that echoes " + query.encode(), fault.headers)
                return
            content = state.files.get(path)
            if content is None:
                self.reply(404, b"not here", {})
                return
            body = content(fields) if callable(content) else content
            self.serve(path, body, fault)

        def serve(self, path, body, fault):
            etag = state.etags.get(path, f'"{len(body)}"')
            headers = {"ETag": etag, "Last-Modified": "Tue, 01 Nov 2022 10:00:00 GMT", "Accept-Ranges": "bytes"}
            status, start = 200, 0
            wanted = self.headers.get("Range")
            is_same = state.ignores_if_range or self.headers.get("If-Range", etag) == etag
            if wanted and not state.ignores_range and is_same:
                start = int(wanted.removeprefix("bytes=").split("-")[0])
                if start >= len(body):
                    self.reply(416, b"", headers | {"Content-Range": f"bytes */{len(body)}"})
                    return
                status = 206
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.send_response(status)
            for name, value in (headers | fault.headers | {"Content-Length": str(len(body) - start)}).items():
                self.send_header(name, value)
            self.end_headers()
            end = len(body) if fault.cut_after is None else start + fault.cut_after
            piece = 1 if path in state.pauses else state.piece
            for at in range(start, end, piece):
                self.wfile.write(body[at : min(at + piece, end)])
                self.wfile.flush()
                time.sleep(state.pauses.get(path, state.pause_s))
            if fault.gate is not None:
                fault.gate.wait(60)
            if fault.cut_after is not None:
                self.close_connection = True
                self.connection.close()

        def reply(self, status, body, headers):
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    return Handler


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Say nothing: clients that hang up are part of the tests."""


@contextmanager
def serving(**settings):
    """Serve until the block ends."""
    state = Loopback(**settings)
    server = QuietServer(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
