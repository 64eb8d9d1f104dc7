"""What the fuzzer reads besides genes and cells: answers of NCBI's E-utilities, and what lies beside shared stores."""

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks.robust.fuzz_base import read_each

NAMES = ["INS", "2641"]
SUMMARY = (
    '<DocumentSummary uid="{uid}"><Name>{name}</Name><Description>{name} hormone</Description><Status>0</Status>'
    "<CurrentID>{current}</CurrentID><OtherAliases>A{uid}, B{uid}</OtherAliases>"
    "<OtherDesignations>x|y</OtherDesignations><NomenclatureSymbol>{name}</NomenclatureSymbol>"
    "<Summary>Text of {name}. [provided by RefSeq, Jul 2008]</Summary><Chromosome>11</Chromosome>"
    "<Organism><ScientificName>Homo sapiens</ScientificName><TaxID>9606</TaxID></Organism></DocumentSummary>"
)
HEAD = '<?xml version="1.0" encoding="UTF-8" ?>\n<!DOCTYPE {} SYSTEM "https://eutils.ncbi.nlm.nih.gov/eutils/dtd/{}.dtd">\n'
ANSWERS = {
    "esearch.xml": HEAD.format("eSearchResult", "esearch")
    + "<eSearchResult><Count>1</Count><RetMax>1</RetMax><IdList><Id>3630</Id></IdList></eSearchResult>",
    "esummary.xml": HEAD.format("eSummaryResult", "esummary_gene")
    + '<eSummaryResult><DocumentSummarySet status="OK">\n'
    + SUMMARY.format(uid=3630, name="INS", current=0)
    + SUMMARY.format(uid=2641, name="GCG", current=930)
    + SUMMARY.format(uid=930, name="CD19", current=0)
    + "\n</DocumentSummarySet></eSummaryResult>",
}  # fmt: skip


@cache
def server(process: int) -> tuple[str, list[Path]]:
    """Start a server that answers with the files of a folder; give its address, and where to put that folder.

    Every process has its own: a thread is in no child of its process.
    """
    folders: list[Path] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = "esearch.xml" if "esearch" in self.path else "esummary.xml"
            content = (folders[-1] / name).read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    threading.Thread(target=found.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{found.server_port}/", folders


def fetch(answers: Path, folder: Path) -> Any:
    """Fetch genes from a server that gives the answers in a folder."""
    from genekb.net.retry import RetryPolicy
    from genekb.sources.entrez_fetch import FetchConfig, fetch_genes

    os.environ |= {"NCBI_EMAIL": "someone@example.org", "NCBI_API_KEY": "key-0123456789"}  # Biopython is faster with it
    url, folders = server(os.getpid())
    folders.append(answers)
    config = FetchConfig(
        base_url=url,
        retry=RetryPolicy(timeout_s=2, max_tries=2, sleep=lambda _: None),
        pause_s=0,
        rate_folder=folder.parent / "rate",
    )
    return fetch_genes(NAMES, folder, config)


def write_entrez(folder: Path) -> None:
    """Write answers of the server, and a folder as a fetch leaves it."""
    (folder / "answers").mkdir()
    for name, text in ANSWERS.items():
        (folder / "answers" / name).write_text(text)
    fetch(folder / "answers", folder / "fetched")
    shutil.rmtree(folder / "rate")


def read_entrez(folder: Path) -> Any:
    """Fetch anew, go on with a fetch, and read what lies there as a source."""
    from genekb.builder.plan import BuildConfig, plan_build
    from genekb.sources.open import read_source

    def build(place: str) -> Any:
        return plan_build(read_source(folder / place, taxa=["human"]), BuildConfig(name="fuzzed@1", models=()))

    uses: list[Callable[[], Any]] = [
        lambda: fetch(folder / "answers", folder / "anew"),
        lambda: fetch(folder / "answers", folder / "fetched"),
        lambda: build("fetched"),
        lambda: build("answers"),
    ]
    return read_each(uses, lambda use: use())


@cache
def small_store() -> Path:
    """Build a store that stays as it is, and give its folder; the process removes it when it ends."""
    from genekb import BuildConfig, build, read_demo_table

    home = tempfile.TemporaryDirectory()
    KEPT.append(home)
    return build(read_demo_table(), BuildConfig(name="human@1", models=("hash-16",)), home=Path(home.name)).folder


KEPT: list[Any] = []


def write_notes(folder: Path) -> None:
    """Write a lock file, a catalog, the notes beside a store, a pair of keys and a signature."""
    import minisign

    from genekb.share.catalog import add_to_catalog, list_manifest
    from genekb.share.lock import pin_store, write_pins
    from genekb.store.manifest import MANIFEST
    from genekb.store.reader import Store

    store = Store(small_store())
    encoder_id = store.encoder_id()
    write_pins([pin_store(store)], folder / "genekb.lock")
    add_to_catalog(list_manifest(store.manifest, "human@1", catalog=folder / "catalog.toml"), folder / "catalog.toml")
    notes = {
        "pulled.json": {store.manifest.digest: {"url": "https://localhost/human@1", "encoders": [encoder_id]}},
        "places.json": {encoder_id: "/nowhere"},
    }
    for name, note in notes.items():
        (folder / name).write_text(json.dumps(note))
    pair = minisign.KeyPair.generate()
    signature = pair.secret_key.sign((small_store() / MANIFEST).read_bytes(), trusted_comment="human@1")
    parts = {"key": pair.secret_key, "key.pub": pair.public_key, "manifest.minisig": signature}
    for name, part in parts.items():
        (folder / name).write_bytes(bytes(part))


def read_notes(folder: Path) -> Any:
    """Read all notes as commands do that open, verify, lock, bring, list and sign stores."""
    from genekb import open as open_store
    from genekb.builder.diff import lineage_tree, trace_lineage
    from genekb.share.catalog import add_to_catalog, address_of, find_listed, read_catalog
    from genekb.share.lock import check_pin, pin_store, sync, write_pins
    from genekb.share.signing import check_signature, sign
    from genekb.store.files import Origin, files_here, note_origin, read_origin, recall_place, remember_places
    from genekb.store.lockfile import read_pins
    from genekb.store.manifest import MANIFEST
    from genekb.store.reader import Store
    from genekb.store.verify import verify_store

    made, home = small_store(), folder / "home"
    place = home / "stores" / "human@1" / made.name
    shutil.copytree(made, place)
    shutil.copy(folder / "pulled.json", place.parent / ".pulled.json")
    shutil.copy(folder / "places.json", place.parent / ".places.json")
    store = Store(place)
    lock, catalog, signature = folder / "genekb.lock", folder / "catalog.toml", folder / "manifest.minisig"
    (encoder_id,) = store.manifest.encoders
    signed = (place / MANIFEST).read_bytes()

    def listed() -> Any:
        entries = read_catalog(str(folder))
        for entry in entries:
            add_to_catalog(entry, catalog)
        return address_of(find_listed(entries, "human")), read_catalog(str(catalog))

    uses: list[Callable[[], Any]] = [
        lambda: (read_origin(place), store.not_pulled, files_here(place, store.manifest), verify_store(place)),
        lambda: lineage_tree(trace_lineage(place, home=home)),
        lambda: recall_place(place.parent, encoder_id),
        lambda: open_store("human", home=home).vectors([3630], encoder=encoder_id),
        lambda: [check_pin(pin, home) for pin in read_pins(lock)],
        lambda: sync(lock, home=home),
        lambda: write_pins([pin_store(store)], lock),
        listed,
        lambda: check_signature(signed, signature.read_bytes(), str(folder / "key.pub"), what="human@1"),
        lambda: sign(place, folder / "key"),
        lambda: note_origin(place, Origin(url="x", encoders=())),
        lambda: remember_places(place.parent, {encoder_id: folder}),
    ]
    with chdir(folder):
        return read_each(uses, lambda use: use())
