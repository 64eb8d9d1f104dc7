"""Build stores of NCBI genes as the assets of a release (`make stores`); docs/guide/sharing.md says what they hold.

Each command is printed, so that a lab can do the same by hand. A store is signed where GENEKB_SIGN_KEY names a secret
key (`genekb verify --sign KEY --new-key`), whose password GENEKB_SIGN_PASSWORD holds. Without --source NCBI's files of
today are downloaded, with GO, PubMed and STRING. With --lock the stores of a lock file are built again, each with the
digest that it pins. Beside each store lies its page (card, figures of `genekb compare`, digest, signature) and what
Zenodo asks for (to be uploaded as .zenodo.json); the folder of a store is a dataset of the Hugging Face Hub as it is.
"""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import typer

import genekb
from genekb.store.card import cited_sources, source_terms, store_licence, without_header
from genekb.store.lockfile import read_pins
from genekb.store.manifest import SIGNATURE, Manifest

_RECIPE: Final = ("--genes", "protein-coding")
_MORE: Final = ("--more", "go", "--more", "pubmed", "--more", "string")
_SUMS, _TABLE, _CATALOG, _LOCK = "SHA256SUMS", "stores.md", "catalog.toml", "genekb.lock"


def main() -> None:
    """Build, sign, check, push and export the store of each species, then write sizes and checksums."""
    options = _options()
    options.output.mkdir(parents=True, exist_ok=True)
    for store in rebuild_stores(options) if options.lock else build_stores(options):
        sign_store(store, home=options.home)
        write_assets(store, home=options.home, output=options.output)
        write_page(store, home=options.home, output=options.output)
    write_sums(options.output)


def build_stores(options: argparse.Namespace) -> list[str]:
    """Build the store of each species, and pin it in the lock file of the release."""
    source = options.source or _download(options.home / "ncbi" / f"{datetime.now(UTC):%Y-%m}", options.taxon)
    more = [word for folder in options.more for word in ("--texts", folder, "--annotations", folder)]
    encoders = [word for model in options.model for word in ("--model", model)]
    stores = [f"{taxon}@{source.name}" for taxon in options.taxon]
    for taxon, store in zip(options.taxon, stores, strict=True):
        what = ("--source", source, *more, "--taxon", taxon, *_RECIPE, *encoders, "--name", store)
        _genekb("build", *what, "--home", options.home)
        lock = ("--source", source, "--file", options.output / _LOCK)
        _genekb("lock", store, *lock, "--home", options.home)
    return stores


def rebuild_stores(options: argparse.Namespace) -> list[str]:
    """Build the stores of a lock file again, which becomes that of the release."""
    source = ("--source", options.source) if options.source else ()
    _genekb("build", "--lock", options.lock, *source, "--home", options.home)
    if options.lock.resolve() != (options.output / _LOCK).resolve():
        shutil.copy(options.lock, options.output / _LOCK)
    return [pin.name for pin in read_pins(options.lock)]


def sign_store(store: str, *, home: Path) -> None:
    """Sign a store if there is a key, and check every byte of it."""
    place = ("--home", home)
    key = os.environ.get("GENEKB_SIGN_KEY", "")
    if key:
        _genekb("verify", store, "--sign", key, *place)
    else:
        typer.echo(f"{store} is not signed: GENEKB_SIGN_KEY names no key")
    _genekb("verify", store, *(("--public-key", f"{key}.pub") if key else ()), *place)


def write_assets(store: str, *, home: Path, output: Path) -> None:
    """Write a store as a folder that `genekb pull` takes, the same as one file, and its vectors for other programs."""
    folder = _folder(store, output)
    shutil.rmtree(folder, ignore_errors=True)
    _genekb("push", store, folder, "--catalog", output / _CATALOG, "--home", home)
    with tarfile.open(f"{folder}.tar", "w") as archive:  # its tables are compressed already
        archive.add(folder, folder.name, filter=_plain)
    manifest = genekb.open(store, home=home).manifest
    for model in (entry["recipe"]["name"] for entry in manifest.encoders.values()):
        line = ("export", "--kb", store, "--encoder", model, "--home", home, "--overwrite")
        _genekb(*line, "-o", f"{folder}.{model}.parquet")
        _genekb(*line, "-o", f"{folder}.{model}.json", "--for", "genept")


def write_page(store: str, *, home: Path, output: Path) -> None:
    """Write the page of a store, and its metadata for Zenodo."""
    kb, folder = genekb.open(store, home=home), _folder(store, output)
    compared = _genekb("compare", store, "--home", home, stdout=subprocess.PIPE)
    key = os.environ.get("GENEKB_SIGN_KEY", "")
    signature = f"minisign, by the key\n\n```\n{Path(f'{key}.pub').read_text().strip()}\n```" if key else "none"
    parts = [
        without_header(kb.card).rstrip(),
        f"## This release\n\nDigest `{kb.manifest.digest}`; `genekb build --lock {_LOCK}` makes it again.\n"
        f"Signature: {signature}",
        f"## Encoders compared\n\n`genekb compare {store}`\n\n```\n{compared.strip()}\n```",
    ]
    folder.with_name(f"{folder.name}.md").write_text("\n\n".join(parts) + "\n")
    record = json.dumps(zenodo_record(kb.manifest), indent=1, ensure_ascii=False)
    folder.with_name(f"{folder.name}.zenodo.json").write_text(record + "\n")


def zenodo_record(manifest: Manifest) -> dict[str, object]:
    """Describe a store as Zenodo's deposits are."""
    licence = store_licence(manifest)
    terms = "; ".join(f"{one.part}: {one.stated}" for one in source_terms(manifest))
    return {
        "title": f"Gene knowledge store {manifest.full_name}",
        "upload_type": "dataset",
        "description": f"<p>{manifest.n_genes:,} genes, {manifest.n_texts:,} with a text, and embeddings by "
        f"{len(manifest.encoders)} encoders, made with genekb. Digest {manifest.digest}. Terms: {terms}.</p>",
        "creators": [{"name": "The genekb and cellmodel developers"}],
        "version": manifest.release,
        "access_right": "open",
        "license": licence.hub_id if licence.hub_id != "other" else "other-open",
        "keywords": ["genomics", "gene embeddings", "NCBI Gene", "single-cell"],
        "references": cited_sources(manifest),
    }


def write_sums(output: Path) -> None:
    """Write the digests of all files for `sha256sum -c`, and a table of stores and files for the docs."""
    files = sorted(file for file in output.iterdir() if file.is_file() and file.name not in {_SUMS, _TABLE})
    sums = {file: _sha256(file) for file in files}
    (output / _SUMS).write_text("".join(f"{digest}  {file.name}\n" for file, digest in sums.items()))
    stores = tomllib.loads((output / _CATALOG).read_text())["store"]
    rows = [
        "| store | genes | texts | bytes | signed | digest |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| `{one['name']}` | {one['n_genes']:,} | {one['n_texts']:,} | {one['n_bytes']:,} | "
            f"{'yes' if (_folder(one['name'], output) / one['digest'] / SIGNATURE).is_file() else 'no'} | "
            f"`{one['digest']}` |"
            for one in stores
        ),
        "",
        "| file | bytes | SHA-256 |",
        "| --- | --- | --- |",
        *(f"| `{file.name}` | {file.stat().st_size:,} | `{digest}` |" for file, digest in sums.items()),
    ]
    (output / _TABLE).write_text("\n".join(rows) + "\n")
    typer.echo(f"{len(files)} files, their sizes and checksums: {output / _TABLE}, {output / _SUMS}")


def _folder(store: str, output: Path) -> Path:
    return output / store.replace("@", "-")


def _download(folder: Path, taxa: Sequence[str]) -> Path:
    _genekb("download", folder, *_MORE, *(word for taxon in taxa for word in ("--taxon", taxon)))
    return folder


def _genekb(*words: object, stdout: int | None = None) -> str:
    line = ["genekb", *map(str, words)]
    typer.echo(f"$ {shlex.join(line)}")
    done = subprocess.run([Path(sys.executable).with_name("genekb"), *line[1:]], check=False, stdout=stdout, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout or ""


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Leave out of an archive when and by whom its files were written."""
    member.mtime, member.uid, member.gid, member.uname, member.gname = 0, 0, 0, "", ""
    return member


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of NCBI's files; its name is the release")
    parser.add_argument("--more", type=Path, nargs="*", default=[], help="folders of further texts and terms")
    parser.add_argument("--lock", type=Path, help="lock file whose stores are built again")
    parser.add_argument("--output", type=Path, default=Path("artifacts/release"))
    parser.add_argument("--home", type=Path, default=Path("artifacts"))
    parser.add_argument("--taxon", nargs="+", default=["human", "mouse"])
    parser.add_argument("--model", nargs="+", default=["best", "minilm"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
