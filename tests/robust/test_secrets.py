"""Keys, passwords and e-mail addresses stay where they are: no command prints, logs or writes one, also when it fails.

A command is added by one line of :data:`COMMANDS`; its words may name ``{server}``, a server that answers with what it
was sent, ``{login}``, the same with user and password in the address, and the folders ``{store}``, ``{keys}``,
``{home}`` and ``{here}``.
"""

import base64
import gzip
import os
import shlex
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import quote

import pyarrow.parquet as pq
import pytest

from genekb.builder.plan import BuildConfig, build
from genekb.share.signing import keygen
from genekb.sources.ncbi_bulk import read_ncbi_folder
from tests.support.loopback import QuietServer

ROOT = Path(__file__).parents[2]
SECRETS = {
    "OPENAI_API_KEY": "sk-Zk3openaiQw8secretRt5",
    "NCBI_API_KEY": "Zk3ncbiQw8secretRt5",
    "NCBI_EMAIL": "zk3someone@qw8.secret.example",
    "HF_TOKEN": "hf_Zk3hubQw8secretRt5",
    "AWS_ACCESS_KEY_ID": "AKZK3AWSQW8IDRT5",
    "AWS_SECRET_ACCESS_KEY": "Zk3aws+Qw8/secretRt5",
    "GENEKB_SIGN_PASSWORD": "Zk3signQw8 secretRt5",
}
USER, PASSWORD = "zk3loginname", "Zk3pass:Qw8@word"
SHORT = 12  # characters of a secret that already tell it

ASK = "genekb build --source {here}/genes.tsv --model api:text-embedding-3-small --name a@1 --home {home} --base-url"
# Words of a command, and what it ends with. The first words of a path name the status with which the server answers.
COMMANDS = {
    "build": (ASK + " {server}/401/v1", 4),
    "build-odd-answer": (ASK + " {server}/200/v1", 5),
    "build-busy": (ASK + " {server}/429/v1", 4),
    "build-login": (ASK + " {login}/401/v1", 4),
    "build-demo": ("genekb build --source {here}/genes.tsv --model hash-8 --name a@1 --home {home}", 0),
    "build-hub": ("genekb build --source {here}/genes.tsv --model nobody/nothing --name a@1 --home {home}", 4),
    "encode": ("genekb encode {store} --model api:text-embedding-3-large --home {home} --base-url {server}/403/v1", 4),
    "download": ("genekb download {here}/d --mirror {login}/401/ --file gene_info", 4),
    "download-odd-answer": ("genekb download {here}/d --mirror {login}/200/ --file gene_summary", None),
    "hgnc": ("genekb download {here}/d --mirror {login}/404/ --hgnc-url {login}/500/ --file hgnc_complete_set", 4),
    "fetch": ("genekb download {here}/f --gene {here}/genes.txt --mirror {server}/400/", 4),
    "fetch-odd-answer": ("genekb download {here}/f --gene {here}/genes.txt --mirror {server}/200/", 4),
    "fetch-login": ("genekb download {here}/f --gene {here}/genes.txt --mirror {login}/400/", None),
    "info": ("genekb info {store} --json", 0),
    "list": ("genekb info --home {home} --json", 0),
    "models": ("genekb info --models", 0),
    "sql": ("genekb sql --kb {store} 'from duckdb_settings()'", 0),
    "sql-environment": ("genekb sql --kb {store} \"from read_text('/proc/self/environ')\"", 3),
    "verify": ("genekb verify {store}", 0),
    "pull": ("genekb pull {login}/401/x --home {home}", 4),
    "pull-odd-answer": ("genekb pull {login}/200/x --home {home}", None),
    "pull-s3": ("genekb pull s3://bucket/x --home {home}", 4),
    "pull-hub": ("genekb pull hf://datasets/a/b --home {home}", 4),
    "push-s3": ("genekb push {store} s3://bucket/x --home {home}", 4),
    "push-hub": ("genekb push {store} hf://datasets/a/b --home {home}", 4),
    "cellmodel-demo": ("cellmodel demo --output {here}/demo --model hash-64 --home {home}", 0),
    "new key": ("genekb verify {store} --sign {here}/key --new-key", 0),
    "sign": ("genekb verify {store} --sign {keys}/right", 0),
    "sign-other-key": ("genekb verify {store} --sign {keys}/other", 3),
    "lock": ("genekb lock {store} --url {login}/401/x --file {here}/genekb.lock", 3),
    "push": ("genekb push {store} {here}/shared --catalog {here}/catalog.toml", 0),
    "push-web": ("genekb push {store} {login}/403/x", None),
    "catalog": ("genekb info --remote --catalog {login}/401/catalog.toml --home {home}", 4),
    "catalog-odd-answer": ("genekb info --remote --catalog {login}/200/catalog.toml --home {home}", None),
    "model": ("cellmodel model pull {login}/401/x -o {here}/model", 4),
}  # fmt: skip
QUICK = {"build", "fetch", "pull"}  # of each kind of secret one, the rest with the long tests


class Echo(BaseHTTPRequestHandler):
    """Answers with all that it was sent, in headers and body; the status is the path's first word."""

    def do_GET(self):
        sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
        told = f"{self.path} {dict(self.headers)} {sent}".replace('"', "'").replace("\\", "/")
        body = f'{{"error": {{"code": "{told[:3000]}", "message": "{told}"}}}}'.encode()
        word = self.path.split("/")[1]
        self.send_response(int(word) if word.isdigit() else 403)
        headers = {"Content-Type": "application/json", "Retry-After": "99999", "Location": f"/{told[:500]}"}
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value.replace("\n", " "))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_POST = do_HEAD = do_PUT = do_GET  # noqa: N815 - names that the library calls

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture(scope="module")
def server():
    running = QuietServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{running.server_port}"
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture(scope="module")
def store(ncbi_folder, tmp_path_factory):
    source = read_ncbi_folder(ncbi_folder, taxa=["human"])
    return build(source, BuildConfig(name="human", models=("hash-8",)), home=tmp_path_factory.mktemp("h")).folder


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """Two keys to sign with: that of the password in the environment, and that of another."""
    pytest.importorskip("minisign")
    folder = tmp_path_factory.mktemp("keys")
    for name, password in (("right", SECRETS["GENEKB_SIGN_PASSWORD"]), ("other", "of another")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GENEKB_SIGN_PASSWORD", password)
            keygen(folder / name)
    return folder


@pytest.fixture
def run(server, store, request, tmp_path):
    """Runs a command with every secret in its environment, where all that it may write lies below one folder."""
    here, home = tmp_path / "here", tmp_path / "home"
    here.mkdir()
    (here / "genes.txt").write_text("CD3D\nCD3E\n")
    (here / "genes.tsv").write_text("gene_id\tsymbol\ttax_id\tname\tsummary\n1\tA\t9606\ta name\tA text of a gene.\n")
    own = {name: str(tmp_path / name.lower()) for name in ("HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "HF_HOME")}
    own |= {"AWS_ENDPOINT_URL": f"http://{server}/403", "HF_ENDPOINT": f"http://{server}/403", "AWS_MAX_ATTEMPTS": "1"}
    own |= {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'cli'}", "no_proxy": "*"}
    login = f"http://{USER}:{quote(PASSWORD, safe='')}@{server}"

    def call(words, *flags):
        places = {"server": f"http://{server}", "login": login, "store": store, "home": home, "here": here}
        places |= {"keys": request.getfixturevalue("keys")} if "{keys}" in words else {}
        filled = [word.format(**places) for word in shlex.split(words)]
        code = f"from genekb_cellmodel_cli.{filled[0]} import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", code, *flags, *filled[1:]],
            env=os.environ | own | SECRETS, cwd=here, capture_output=True, check=False, timeout=280,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    return call


def told(content):
    """Names of the secrets that some bytes hold, whole or a piece of them, as they are or encoded."""
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    values = SECRETS | {"user": USER, "password": PASSWORD, "login": login}
    found = []
    for name, value in values.items():
        forms = {value, value[:SHORT], value[-SHORT:], quote(value, safe=""), base64.b64encode(value.encode()).decode()}
        found += [name] if any(form.encode() in content for form in forms) else []
    return found


def contents(folder):
    """What every file below a folder holds, unpacked."""
    for path in (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += str(pq.read_table(path).to_pydict()).encode()
        if content.startswith(b"\x1f\x8b"):
            content += gzip.decompress(content)
        yield path, content


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind in QUICK else [pytest.mark.slow]) for kind in COMMANDS]
)
def test_a_command_neither_prints_nor_writes_a_secret(run, tmp_path, kind):
    words, expected = COMMANDS[kind]
    code, shown = run(words, "-v")
    assert expected in (None, code), shown.decode()
    assert told(shown) == [], shown.decode()
    assert [(path, told(content)) for path, content in contents(tmp_path) if told(content)] == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind, (_, code) in COMMANDS.items() if code != 0])
def test_a_traceback_holds_no_secret(run, tmp_path, kind):
    code, shown = run(COMMANDS[kind][0], "-v", "--debug")
    assert code != 0 or COMMANDS[kind][1] is None
    assert told(shown) == [], shown.decode()
    assert [path for path, content in contents(tmp_path) if told(content)] == []


def test_the_search_for_secrets_finds_them(tmp_path):
    header = base64.b64encode(f"{USER}:{PASSWORD}".encode())
    assert "login" in told(b"Authorization: Basic " + header)
    assert told(b"... " + SECRETS["OPENAI_API_KEY"][:SHORT].encode()) == ["OPENAI_API_KEY"]
    (tmp_path / "log.gz").write_bytes(gzip.compress(SECRETS["NCBI_EMAIL"].encode()))
    assert [told(content) for _, content in contents(tmp_path)] == [["NCBI_EMAIL"]]
