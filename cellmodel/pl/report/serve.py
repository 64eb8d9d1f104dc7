"""The report as a page of this machine alone, on which any gene of the cells can be chosen."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig
from cellmodel.io.records import check_records
from cellmodel.pl.report.collect.data import ReportData
from cellmodel.pl.report.collect.frames import report_data, shown_places
from cellmodel.pl.report.page.payload import packed_gene
from cellmodel.pl.report.page.render import render_report
from cellmodel.pp.blocks import open_cells


@contextmanager
def serve_report(
    path: Path,
    *,
    cluster_key: str = "cellmodel",
    sample_key: str | None = None,
    read: ReadConfig | None = None,
    port: int = 0,
    other_store: bool = False,
) -> Iterator[tuple[str, ThreadingHTTPServer]]:
    """Serve the report of the clusters of a file on 127.0.0.1; see :func:`cellmodel.pl.report.write.report_file`.

    The file is read once: all genes of the cells on the map, 50,000 at most, stay in memory. ``port``: 0 takes any that
    is free. Gives the address, a part of which is drawn at random so that nobody else on the machine can guess it, and
    the server. Raises ``InputUnusable`` as the report does, or if the port is taken.
    """
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), BaseHTTPRequestHandler)
    except OSError as error:
        raise InputUnusable(f"port {port} of 127.0.0.1 cannot be used ({error.strerror}); leave `port` out") from error
    with server:
        with open_cells(path, read, places=partial(shown_places, cluster_key)) as cells:
            check_records(cells, key=cluster_key, other_store=other_store)
            data = report_data(cells, cluster_key=cluster_key, sample_key=sample_key, most_genes=None)
        token = secrets.token_urlsafe(16)
        server.RequestHandlerClass = _handler(data, f"/{token}/", f"127.0.0.1:{server.server_port}")
        yield f"http://127.0.0.1:{server.server_port}/{token}/", server


def _handler(data: ReportData, root: str, host: str) -> type[BaseHTTPRequestHandler]:
    """Answer for the page at ``root``, and for genes by their number below ``gene/``, where the host is named so."""
    page = render_report(data, is_served=True).encode("utf-8", errors="backslashreplace")
    genes = {f"gene/{number}": number for number in range(len(data.values.genes) if data.values else 0)}

    class Handler(BaseHTTPRequestHandler):
        timeout = 30  # s, of a client that sends or takes nothing

        def handle(self) -> None:
            """Answer a client; one that goes away ends its own connection alone."""
            with suppress(ConnectionError):
                super().handle()

        def do_GET(self) -> None:
            """Answer a request of the page."""
            start, asked = self.path[: len(root)], self.path[len(root) :]
            if self.headers.get("Host") != host:  # a page of another site that has taken this address
                self.send_error(403)
            elif not secrets.compare_digest(start.encode(), root.encode()):
                self.send_error(404)
            elif not asked:
                self._send(page, "text/html; charset=utf-8")
            elif data.values is not None and asked in genes:
                self._send(json.dumps(packed_gene(data.values, genes[asked])).encode(), "application/json")
            else:
                self.send_error(404)

        def _send(self, content: bytes, kind: str) -> None:
            self.send_response(200)
            headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
            headers |= {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Write nothing: the address of each request holds the secret."""

    return Handler
