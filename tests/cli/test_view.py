"""`cellmodel view`: the report served to this machine alone, with every gene, by a real process and a real browser."""

import base64
import http.client
import json
import signal
import socket
import struct
import subprocess
import sys
from contextlib import contextmanager
from threading import Thread
from urllib.parse import urlsplit

import anndata
import numpy as np
import pytest
import scipy.sparse as sp

from cellmodel.pl.report.serve import serve_report
from tests.cellmodel.pl.test_report import unpacked
from tests.support.browser import browser_at

N_CELLS, N_GENES = 90, 3_100


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Cells of two groups with more genes than a page holds."""
    rng = np.random.default_rng(0)
    rates = np.full((N_CELLS, N_GENES), 0.2)
    rates[::2, :20] = rates[1::2, 20:40] = 4.0
    adata = anndata.AnnData(sp.csr_matrix(rng.poisson(rates).astype(np.float32)))
    adata.var_names = [f"GENE{at}" for at in range(N_GENES)]
    adata.obs["group"] = ["ab"[at % 2] for at in range(N_CELLS)]
    adata.obsm["X_umap"] = rng.normal(size=(N_CELLS, 2))
    path = tmp_path_factory.mktemp("view") / "cells.h5ad"
    adata.write_h5ad(path)
    return path


def arguments(path, *options):
    program = "import sys; from genekb_cellmodel_cli.entry import cellmodel; sys.argv[0] = 'cellmodel'; cellmodel()"
    return [sys.executable, "-c", program, "view", str(path), "--cluster-key", "group", "--no-browser", *options]


@contextmanager
def viewing(path, *options):
    """Run the command until the end of the block, then interrupt it as Ctrl-C does."""
    process = subprocess.Popen(arguments(path, *options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err


def ask(address, path, *, host=None):
    """Status and content of an answer."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=20)
    connection.request("GET", path, headers={"Host": host or parts.netloc})
    answer = connection.getresponse()
    return answer.status, answer.read()


def ask_raw(address, line):
    """Whole answer to a request line that no browser would send."""
    parts = urlsplit(address)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as connection:
        connection.sendall(f"{line}\r\nHost: {parts.netloc}\r\n\r\n".encode())
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


@pytest.fixture(scope="module")
def address(cells):
    with viewing(cells) as found:
        yield found


def test_any_gene_is_answered_as_the_page_holds_it_and_nothing_else(address, cells):
    root = urlsplit(address).path
    status, page = ask(address, root)
    assert (status, urlsplit(address).hostname) == (200, "127.0.0.1")
    assert b"connect-src &#39;self&#39;" in page
    adata = anndata.read_h5ad(cells)
    counts = adata.X.toarray().astype(float)
    expected = np.log1p(1e4 * counts / counts.sum(axis=1, keepdims=True))
    _, content = ask(address, f"{root}gene/{N_GENES - 1}")
    gene = json.loads(content)
    steps = unpacked(base64.b64decode(gene["values"]), n_cells=N_CELLS)
    column = expected[:, adata.var_names.get_loc(gene["name"])]
    assert np.allclose(steps / 255 * gene["highest"], column, atol=gene["highest"] / 255)
    assert ask(address, f"{root}gene/{N_GENES}")[0] == 404
    assert ask(address, f"{root}gene/-1")[0] == 404
    assert ask(address, "/")[0] == 404
    assert ask(address, "/etc/passwd")[0] == 404
    assert ask(address, root, host="example.org")[0] == 403


@pytest.mark.parametrize(
    "target",
    [
        "5", "/5", "//5", "gene/5", "/gene/5", "{token}", "{token}/gene/5", "/{token}", "/{token}gene/5", "/{token}/5",
        "/{token}/gene/", "/{token}/gene/05", "/{token}/gene/+5", "/{cut}/gene/5", "/{cut}", "/\u00e9/gene/5",
        "http://{host}/5", "http://{host}/{token}/gene/5", "5" * 5_000, "/{token}/gene/" + "5" * 5_000,
    ],
)  # fmt: skip
def test_nothing_is_answered_to_a_target_that_does_not_start_with_the_whole_secret(address, target):
    parts = urlsplit(address)
    token = parts.path.strip("/")
    target = target.format(host=parts.netloc, token=token, cut=token[:-1])
    assert ask_raw(address, f"GET {target} HTTP/1.1").split(b"\r\n")[0] == b"HTTP/1.0 404 Not Found"
    assert ask_raw(address, f"GET /{parts.path}gene/5 HTTP/1.1").startswith(
        b"HTTP/1.0 200 OK"
    )  # as all servers read //


def test_a_client_that_goes_away_or_says_nothing_ends_its_connection_alone(cells, capsys):
    with serve_report(cells, cluster_key="group") as (address, server):
        handler = server.RequestHandlerClass
        usual, handler.timeout = handler.timeout, 0.2
        assert 0 < usual <= 60
        server.daemon_threads = False  # its end waits for those of all connections
        thread = Thread(target=server.serve_forever)
        thread.start()
        with socket.create_connection(server.server_address, timeout=20) as silent:
            assert silent.recv(1) == b""
        handler.timeout = usual  # a loaded machine is no silent client
        for sent in (b"", b"GET ", f"GET {urlsplit(address).path} HTTP/1.1\r\nHost: {server.server_port}".encode()):
            with socket.create_connection(server.server_address, timeout=20) as gone:
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing is a reset
                gone.sendall(sent)
        assert ask(address, urlsplit(address).path)[0] == 200
        server.shutdown()
        thread.join()
    assert "Traceback" not in capsys.readouterr().err  # where notes on the file stand, too


@pytest.mark.slow
def test_a_port_that_is_taken_is_one_line(address, cells):
    port = urlsplit(address).port
    asked = arguments(cells, "--port", str(port))
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"port {port} of 127.0.0.1 cannot be used" in done.stderr


@pytest.mark.slow
def test_a_gene_that_the_page_does_not_hold_colors_the_map_when_it_is_chosen(address, tmp_path):
    with browser_at(address, tmp_path) as page:
        held, served = page.run(
            "(() => { const p = JSON.parse(document.getElementById('plot-data').textContent);"
            "return [p.genes.length, p.served]; })()"
        )
        assert (held, held + len(served)) == (3_000, N_GENES)
        page.run("document.getElementById('gene').focus()")
        page.type(served[-1])
        page.wait(f"document.getElementById('plot-status').textContent.includes('expression of {served[-1]}')")
        assert page.log == []
