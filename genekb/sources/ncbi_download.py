"""NCBI's bulk files, downloaded into a folder that is then a source like any other."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from genekb.core.addresses import host_of, is_web_address
from genekb.core.errors import NotAvailable, SourceUnusable, StoreBusy
from genekb.files.atomic import sha256_file, write_json
from genekb.genes.taxa import ALL, Taxon, find_taxon
from genekb.net.client import Absent, connection_fault, open_client
from genekb.net.download import Transfer, Version
from genekb.net.retry import TryAgain

MIRROR: Final = "https://ftp.ncbi.nlm.nih.gov/gene/DATA/"
HGNC_URL: Final = "https://storage.googleapis.com/public-download-files/hgnc/tsv/tsv/hgnc_complete_set.txt"
RECORD: Final = "download.json"
FILES: Final = {
    "gene_info": "",
    "gene_summary": "gene_summary.gz",
    "gene_orthologs": "gene_orthologs.gz",
    "gene_history": "gene_history.gz",
    "gene2ensembl": "gene2ensembl.gz",
    "gene2go": "gene2go.gz",
    "generifs_basic": "../GeneRIF/generifs_basic.gz",
    "taxdump": "../../pub/taxonomy/taxdump.tar.gz",
    "hgnc_complete_set": "hgnc_complete_set.txt",
}
DEFAULT_FILES: Final = ("gene_info", "gene_summary", "gene_orthologs")
_GROUPS: Final = {  # species that NCBI gives a file of their own, by its folder
    "Mammalia": ("human", "mouse", "rat", "pig", "cow", "chimpanzee"),
    "Non-mammalian_vertebrates": ("chicken", "zebrafish", "african-clawed-frog", "western-clawed-frog"),
    "Invertebrates": ("fly", "worm", "mosquito"),
    "Plants": ("arabidopsis", "maize"),
    "Fungi": ("yeast",),
}

Progress = Callable[[str, int, int], None]  # file, bytes that are there, bytes in all


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadConfig:
    """What is downloaded, and from where.

    Parameters
    ----------
    taxa
        Species whose gene_info is wanted; ``all`` for the file of every species.
    files
        Keys of :data:`FILES`.
    mirror
        Address that stands for NCBI's folder gene/DATA; it may hold the files in NCBI's folders or side by side.
    hgnc_url
        Address of HGNC's complete set; where it is left out and `mirror` is given, the mirror is asked for that too.
    timeout_s
        Longest silence of the server.
    max_tries
        Of each request.
    is_forced
        Whether files that are here already are downloaded again.
    sleep
        Waits between tries, in seconds.

    Raises
    ------
    ValueError
        If a file is unknown, an address is none of a web server, or a number lies outside its range.
    """

    taxa: tuple[str, ...] = ("human",)
    files: tuple[str, ...] = DEFAULT_FILES
    mirror: str = MIRROR
    hgnc_url: str | None = None
    timeout_s: float = 60.0
    max_tries: int = 6
    is_forced: bool = False
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        """Check the choices."""
        unknown = [name for name in self.files if name not in FILES]
        if unknown:
            raise ValueError(f"file {unknown[0]!r} is not one of {', '.join(FILES)}")
        if not is_web_address(self.mirror) or urlsplit(self.mirror).query:
            raise ValueError("mirror must be an address http(s)://host[:port][/path] without a query")
        if self.hgnc_url is not None and not is_web_address(self.hgnc_url):
            raise ValueError("hgnc_url must be an address http(s)://host[:port]/path")
        if self.timeout_s <= 0 or self.max_tries < 1:
            raise ValueError(f"timeout_s must be > 0 and max_tries >= 1, got {self.timeout_s} and {self.max_tries}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Downloaded:
    """A file that is in the folder now."""

    name: str  # in the folder
    url: str  # address without user, password and query
    n_bytes: int  # n_bytes, sha256: of its bytes
    sha256: str
    last_modified: str  # as the server says
    is_new: bool = True  # whether it was downloaded now


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadResult:
    """What a download ended with: the folder, its files, and the release that they are of (a date)."""

    folder: Path
    files: tuple[Downloaded, ...]
    release: str


def download_release(folder: Path, config: DownloadConfig, *, progress: Progress | None = None) -> DownloadResult:
    """Download NCBI's bulk files, or go on with a download that was interrupted.

    A file gets its name only when all of it has arrived and its gzip can be read to the end. Size, SHA-256 and the
    server's date of each are written to ``download.json``; a file that is there with that digest is not fetched again.

    Raises ``NotAvailable`` if the server cannot be reached, or the folder cannot be written; ``SourceUnusable`` if the
    server does not have a file, or its file is damaged; ``StoreBusy`` if another process downloads into the folder.
    """
    import filelock

    taxa = [] if ALL in config.taxa else [find_taxon(name) for name in config.taxa]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            filelock.FileLock(folder / ".download.lock", blocking=False),
            open_client(config.timeout_s) as client,
        ):
            transfer = Transfer(client=client, max_tries=config.max_tries, sleep=config.sleep, progress=progress)
            return _download(folder, config, transfer, taxa)
    except filelock.Timeout as error:
        raise StoreBusy(f"another process downloads into {folder}; wait for it, or use another folder") from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise NotAvailable(
            f"cannot write to {folder}: {reason}; free space or use another folder, then run the same command again"
        ) from error


def _download(folder: Path, config: DownloadConfig, transfer: Transfer, taxa: Sequence[Taxon]) -> DownloadResult:
    record = _read_record(folder)
    wanted = [name for key in config.files for name in (_gene_info(taxa) if key == "gene_info" else [key])]
    is_reached = False
    for key in wanted:
        candidates = _addresses(key, config)
        name = _file_name(key, config)
        if not config.is_forced and _is_here(folder / name, record.get(name)):
            record[name]["is_new"] = False
            continue
        is_reached = is_reached or _reach(candidates[0], transfer, wanted=_names(wanted, config))
        version = _fetch(candidates, folder / name, transfer, wanted=_names(wanted, config))
        record[name] = _described(folder / name, version)
        write_json(record, folder / RECORD)
    names = dict.fromkeys(_file_name(key, config) for key in wanted)
    files = tuple(Downloaded(**{key: record[name][key] for key in _FIELDS}) for name in names)
    return DownloadResult(folder=folder, files=files, release=_release(files))


_FIELDS: Final = ("name", "url", "n_bytes", "sha256", "last_modified", "is_new")


def _gene_info(taxa: Sequence[Taxon]) -> list[str]:
    """Species' own files where NCBI has them for all that are wanted, else the file of every species."""
    group = {name: folder for folder, names in _GROUPS.items() for name in names}
    if taxa and all(taxon.name in group for taxon in taxa):
        return [f"GENE_INFO/{group[taxon.name]}/{taxon.file_prefix}.gene_info.gz" for taxon in taxa]
    return ["gene_info.gz"]


def _addresses(key: str, config: DownloadConfig) -> list[str]:
    """Where a file may lie: in NCBI's folders, or beside the others."""
    if key == "hgnc_complete_set" and (config.hgnc_url or config.mirror == MIRROR):
        return [config.hgnc_url or HGNC_URL]
    base = config.mirror.rstrip("/") + "/"
    path = FILES.get(key, key)
    nested = base + path
    while "/../" in nested:
        before, _, after = nested.partition("/../")
        nested = f"{before.rpartition('/')[0]}/{after}"
    return list(dict.fromkeys([nested, base + path.rpartition("/")[2]]))


def _file_name(key: str, config: DownloadConfig) -> str:
    """Name that a file gets in the folder; that of HGNC's set is ours, whatever its address."""
    name = urlsplit(_addresses(key, config)[0]).path.rpartition("/")[2]
    if key == "hgnc_complete_set":
        return FILES[key] + (".gz" if name.endswith(".gz") else "")
    return name


def _names(wanted: Sequence[str], config: DownloadConfig) -> str:
    return ", ".join(_file_name(key, config) for key in wanted)


def _reach(url: str, transfer: Transfer, *, wanted: str) -> bool:
    fault = connection_fault(transfer.client, url)
    if fault:
        raise NotAvailable(f"{host_of(url)} cannot be reached ({fault}); check the network, {_twin(wanted)}")
    return True


def _twin(wanted: str) -> str:
    return f"or put {wanted} into a folder yourself and give it to `genekb build --source FOLDER`"


def _fetch(candidates: Sequence[str], path: Path, transfer: Transfer, *, wanted: str) -> Version:
    twin = _twin(wanted)
    host = host_of(candidates[0])
    for url in candidates:
        try:
            return transfer.fetch(url, path)
        except Absent:
            continue
        except TryAgain as error:
            raise NotAvailable(
                f"{host} did not give {path.name} in {transfer.max_tries} tries ({error}); what has arrived is kept: "
                f"run the same command again, {twin}"
            ) from error
    raise SourceUnusable(f"{host} has no {path.name}; is --mirror right? Else {twin.removeprefix('or ')}")


def _described(path: Path, version: Version) -> dict[str, Any]:
    return {
        "name": path.name,
        "url": version.url,
        "n_bytes": path.stat().st_size,
        "sha256": sha256_file(path),
        "last_modified": version.last_modified,
        "etag": version.etag,
        "downloaded_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "is_new": True,
    }


def _read_record(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return {
            name: asdict(Downloaded(**{key: entry[key] for key in _FIELDS})) | entry for name, entry in record.items()
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _is_here(path: Path, entry: dict[str, Any] | None) -> bool:
    if entry is None or not path.is_file() or path.stat().st_size != entry["n_bytes"]:
        return False
    return bool(sha256_file(path) == entry["sha256"])


def _release(files: Sequence[Downloaded]) -> str:
    """Date of the newest gene_info: NCBI replaces its files in place, and the date is all that tells a release."""
    dates = []
    for file in files:
        if "gene_info" in file.name and file.last_modified:
            try:
                dates.append(parsedate_to_datetime(file.last_modified).date().isoformat())
            except (TypeError, ValueError):
                continue
    return max(dates, default="")
