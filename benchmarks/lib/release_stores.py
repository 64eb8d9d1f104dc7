"""Build stores of NCBI genes as the assets of a release (`make stores`); docs/guide/sharing.md says what they hold.

Each command is printed, so that a lab can do the same by hand. A store is signed where GENEKB_SIGN_KEY names a secret
key (`genekb verify --sign KEY --new-key`), whose password GENEKB_SIGN_PASSWORD holds. Without --source NCBI's files of
today are downloaded.
"""

import argparse
import hashlib
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

from genekb.store.manifest import SIGNATURE

_RECIPE: Final = ("--genes", "protein-coding", "--template", "designations")  # of docs/method/wcp.md
_SUMS, _TABLE, _CATALOG = "SHA256SUMS", "stores.md", "catalog.toml"


def main() -> None:
    """Build, sign, check, push and export the store of each species, then write sizes and checksums."""
    options = _options()
    source = options.source or _download(options.home / "ncbi" / f"{datetime.now(UTC):%Y-%m}", options.taxon)
    options.output.mkdir(parents=True, exist_ok=True)
    for taxon in options.taxon:
        store = f"{taxon}@{source.name}"
        make_store(store, taxon=taxon, source=source, models=options.model, home=options.home)
        write_assets(store, models=options.model, home=options.home, output=options.output)
    write_sums(options.output)


def make_store(store: str, *, taxon: str, source: Path, models: Sequence[str], home: Path) -> None:
    """Build the store, sign it if there is a key, and check every byte of it."""
    encoders = [word for model in models for word in ("--model", model)]
    place = ("--home", home)
    _genekb("build", "--source", source, "--taxon", taxon, *_RECIPE, *encoders, "--name", store, *place)
    key = os.environ.get("GENEKB_SIGN_KEY", "")
    if key:
        _genekb("verify", store, "--sign", key, *place)
    else:
        typer.echo(f"{store} is not signed: GENEKB_SIGN_KEY names no key")
    _genekb("verify", store, *(("--public-key", f"{key}.pub") if key else ()), *place)


def write_assets(store: str, *, models: Sequence[str], home: Path, output: Path) -> None:
    """Write a store as a folder that `genekb pull` takes, the same as one file, and its vectors for other programs."""
    folder = _folder(store, output)
    shutil.rmtree(folder, ignore_errors=True)
    _genekb("push", store, folder, "--catalog", output / _CATALOG, "--home", home)
    with tarfile.open(f"{folder}.tar", "w") as archive:  # its tables are compressed already
        archive.add(folder, folder.name, filter=_plain)
    for model in models:
        line = ("export", "--kb", store, "--encoder", model, "--home", home, "--overwrite")
        _genekb(*line, "-o", f"{folder}.{model}.parquet")
        _genekb(*line, "-o", f"{folder}.{model}.json", "--for", "genept")


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
    _genekb("download", folder, *(word for taxon in taxa for word in ("--taxon", taxon)))
    return folder


def _genekb(*words: object) -> None:
    line = ["genekb", *map(str, words)]
    typer.echo(f"$ {shlex.join(line)}")
    done = subprocess.run([Path(sys.executable).with_name("genekb"), *line[1:]], check=False)
    if done.returncode:
        sys.exit(done.returncode)


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
    parser.add_argument("--output", type=Path, default=Path("artifacts/release"))
    parser.add_argument("--home", type=Path, default=Path("artifacts"))
    parser.add_argument("--taxon", nargs="+", default=["human", "mouse"])
    parser.add_argument("--model", nargs="+", default=["wcp", "minilm"])
    return parser.parse_args()


if __name__ == "__main__":
    main()
