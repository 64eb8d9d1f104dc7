"""NCBI's bulk files, and those of UniProt, STRING, the Alliance, GO and HGNC, downloaded into one folder."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from genekb.core.addresses import host_of, is_web_address
from genekb.core.errors import SourceUnusable
from genekb.core.messages import Names, check_choice, several
from genekb.core.progress import Progress, progress
from genekb.core.python import for_python
from genekb.files.atomic import sha256_file, write_json
from genekb.genes.taxa import ALL, Taxon, find_taxon
from genekb.net.client import Absent, check_reachable, open_client
from genekb.net.download import KEPT, FileVersion, WebDownload, own_folder
from genekb.net.retry import RetryPolicy
from genekb.sources.base import NCBI_FILES

if TYPE_CHECKING:
    import httpx

MIRROR: Final = "https://ftp.ncbi.nlm.nih.gov/gene/DATA/"
HGNC_URL: Final = "https://storage.googleapis.com/public-download-files/hgnc/tsv/tsv/hgnc_complete_set.txt"
RECORD: Final = "download.json"
_HGNC: Final = NCBI_FILES["hgnc_complete_set"].place
# files of others: name in the folder, address; {} the species
_OTHERS: Final = {
    "uniprot": (
        "uniprot_{tax_id}.tsv.gz",
        "https://rest.uniprot.org/uniprotkb/stream?compressed=true&format=tsv&fields=accession,gene_primary,organism_id,"
        "xref_geneid,cc_function&query=(organism_id:{tax_id})+AND+(reviewed:true)",
    ),
    "string": (
        "{tax_id}.protein.info.v12.0.txt.gz",
        "https://stringdb-downloads.org/download/protein.info.v12.0/{tax_id}.protein.info.v12.0.txt.gz",
    ),
    "alliance": (
        "GENE-DESCRIPTION-TSV_{alliance}.tsv.gz",
        "https://fms.alliancegenome.org/download/GENE-DESCRIPTION-TSV_{alliance}.tsv.gz",
    ),
    "go_basic": ("go-basic.obo", "https://purl.obolibrary.org/obo/go/go-basic.obo"),
}
_ALLIANCE: Final = {9606: "HUMAN", 10090: "MGI", 10116: "RGD", 7955: "ZFIN", 7227: "FB", 6239: "WB", 559292: "SGD"}
FILES: Final = (*NCBI_FILES, *_OTHERS)
WITH: Final = {  # files of further sources
    "uniprot": ("uniprot",),
    "string": ("string",),
    "alliance": ("alliance",),
    "go": ("gene2go", "go_basic"),
    "pubmed": ("gene2pubmed",),
    "hgnc": ("hgnc_complete_set",),
}
DEFAULT_FILES: Final = ("gene_info", "gene_summary", "gene_orthologs")


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadConfig:
    """What is downloaded, and from where; ``ValueError`` if a file or an address is none that can be downloaded."""

    taxa: tuple[str, ...] = ("human",)  # species whose gene_info is wanted; ``all`` for the file of every species
    # of :data:`FILES`; if empty :data:`DEFAULT_FILES`, and HGNC's set for human unless it would be a mirror's
    files: tuple[str, ...] = ()
    more: tuple[str, ...] = ()  # keys of :data:`WITH`, further sources
    mirror: str = MIRROR  # in place of NCBI's folder gene/DATA; with the files in NCBI's folders or side by side
    hgnc_url: str | None = None  # of HGNC's complete set; where only `mirror` is given, that is asked for the set too
    is_forced: bool = False  # whether files that are here already are downloaded again
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Check the choices."""
        for name in self.files:
            check_choice("file", name, FILES)
        for name in self.more:
            check_choice("source", name, tuple(WITH))
        if not is_web_address(self.mirror) or urlsplit(self.mirror).query:
            raise ValueError("mirror must be an address http(s)://host[:port][/path] without a query")
        if self.hgnc_url is not None and not is_web_address(self.hgnc_url):
            raise ValueError("hgnc_url must be an address http(s)://host[:port]/path")

    def wanted_files(self, taxa: Sequence[Taxon]) -> tuple[str, ...]:
        """Give the files, each once; without a species all are wanted."""
        is_human = not taxa or any(taxon.name == "human" for taxon in taxa)
        has_hgnc = is_human and (self.mirror == MIRROR or self.hgnc_url is not None)
        files = self.files or (*DEFAULT_FILES, *(["hgnc_complete_set"] if has_hgnc else []))
        return tuple(dict.fromkeys([*files, *(file for name in self.more for file in WITH[name])]))


@dataclass(frozen=True, kw_only=True, slots=True)
class Downloaded:
    """A file that is in the folder now."""

    name: str  # in the folder
    url: str  # address without user, password and query
    n_bytes: int  # n_bytes, sha256: of its bytes
    sha256: str
    last_modified: str  # as the server says
    is_new: bool  # whether it was downloaded now


_FIELDS: Final = {field.name for field in fields(Downloaded)}


@dataclass(frozen=True, kw_only=True, slots=True)
class DownloadResult:
    """What a download ended with: the folder, its files, and the release that they are of (a date)."""

    folder: Path
    files: tuple[Downloaded, ...]
    release: str


@for_python
def download(
    folder: str | Path,
    *,
    taxon: Names = "human",
    file: Names = (),
    more: Names = (),
    mirror: str | None = None,
    hgnc_url: str | None = None,
    force: bool = False,
    timeout_s: float = 60.0,
) -> DownloadResult:
    """Download NCBI's bulk files into a folder, as `genekb download` does, or go on with an interrupted download.

    Parameters
    ----------
    folder
        Folder for the files; made if it is not there.
    taxon
        Species by name or NCBI taxonomy id, or all; one or several.
    file
        gene_info, gene_summary, gene_orthologs (these, and of human HGNC's set, if empty), gene_history, gene2ensembl,
        gene2go, gene2pubmed, generifs_basic, taxdump, hgnc_complete_set; one or several.
    more
        Further sources: some of uniprot, string, alliance, go, pubmed, hgnc.
    mirror
        Address in place of NCBI's gene/DATA, with the files in NCBI's folders or side by side.
    hgnc_url
        Address of HGNC's complete set, if not HGNC's own.
    force
        Download again what is here already.
    timeout_s
        Longest silence of the server, in seconds.

    Raises
    ------
    ValueError
        If a file or an address is none that can be downloaded.
    SourceUnusable, NotAvailable
        If a file is damaged on the server, or the server does not give it.
    """
    taxa, files, sources = (tuple(several(one)) for one in (taxon, file, more))
    config = DownloadConfig(
        taxa=taxa, files=files, more=sources, mirror=MIRROR if mirror is None else mirror, hgnc_url=hgnc_url,
        is_forced=force, retry=RetryPolicy(timeout_s=timeout_s),
    )  # fmt: skip
    return download_release(Path(folder), config)


def download_release(folder: Path, config: DownloadConfig, *, progress: Progress = progress) -> DownloadResult:
    """Download NCBI's bulk files, or go on with a download that was interrupted.

    A file gets its name only when all of it has arrived and its gzip can be read to the end. Size, SHA-256 and the
    server's date of each are written to ``download.json``; a file that is there with that digest is not fetched again.
    """
    taxa = [] if ALL in config.taxa else [find_taxon(name) for name in config.taxa]
    with (
        own_folder(folder, lock=".download.lock", work="downloads"),
        open_client(config.retry.timeout_s) as client,
    ):
        return _download(folder, config, client, taxa, progress)


def _download(
    folder: Path, config: DownloadConfig, client: "httpx.Client", taxa: Sequence[Taxon], progress: Progress
) -> DownloadResult:
    record = _read_record(folder)
    wanted = {name: addresses for file in config.wanted_files(taxa) for name, addresses in _places(file, config, taxa)}
    names = list(wanted)
    by_hand = f"or put {', '.join(names)} into a folder yourself and give it to `genekb build` (`source`)"
    download = WebDownload(client=client, retry=config.retry, hint=f"{KEPT}, {by_hand}", progress=progress)
    is_reached = False
    for name, candidates in wanted.items():
        if not config.is_forced and _is_here(folder / name, record.get(name)):
            record[name]["is_new"] = False
            continue
        if not is_reached:
            check_reachable(client, candidates[0], hint=f"check the network, {by_hand}")
            is_reached = True
        version = _fetch(candidates, folder / name, download, by_hand=by_hand)
        record[name] = _described(folder / name, version)
        write_json(record, folder / RECORD)
    files = tuple(Downloaded(**{key: record[name][key] for key in _FIELDS}) for name in dict.fromkeys(names))
    return DownloadResult(folder=folder, files=files, release=_release(files))


def _places(file: str, config: DownloadConfig, taxa: Sequence[Taxon]) -> list[tuple[str, list[str]]]:
    """Names in the folder of one of :data:`FILES`, and where each may lie: in NCBI's folders, or beside the others.

    Of gene_info these are the species' own files if NCBI has them for all that are wanted. Files of others than NCBI
    lie beside its own where a mirror is given.
    """
    base = config.mirror.rstrip("/") + "/"
    if file in _OTHERS:
        found = []
        for taxon in taxa or [find_taxon("human")]:
            alliance = _ALLIANCE.get(int(taxon.tax_id))
            if alliance is None and file == "alliance":
                raise SourceUnusable(f"the Alliance has no descriptions of {taxon.name}; leave out alliance")
            name, url = (text.format(tax_id=taxon.tax_id, alliance=alliance) for text in _OTHERS[file])
            found.append((name, [url if config.mirror == MIRROR else base + name]))
        return found
    place = NCBI_FILES[file].place
    if place == _HGNC and (config.hgnc_url or config.mirror == MIRROR):
        url = config.hgnc_url or HGNC_URL
        return [(_HGNC + (".gz" if urlsplit(url).path.endswith(".gz") else ""), [url])]
    places = [place]
    if file == "gene_info" and taxa and all(taxon.folder for taxon in taxa):
        places = [f"GENE_INFO/{taxon.folder}/{taxon.file_prefix}.gene_info.gz" for taxon in taxa]
    names = [(each.rpartition("/")[2], each) for each in places]
    return [(name, list(dict.fromkeys([urljoin(base, each), base + name]))) for name, each in names]


def _fetch(candidates: Sequence[str], path: Path, download: WebDownload, *, by_hand: str) -> FileVersion:
    for url in candidates:
        with suppress(Absent):
            return download.fetch(url, path)
    host = host_of(candidates[0])
    raise SourceUnusable(f"{host} has no {path.name}; is `mirror` right? Else {by_hand.removeprefix('or ')}")


def _described(path: Path, version: FileVersion) -> dict[str, Any]:
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
        return {name: entry for name, entry in record.items() if entry.keys() >= _FIELDS}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}


def _is_here(path: Path, entry: dict[str, Any] | None) -> bool:
    if entry is None or not path.is_file() or path.stat().st_size != entry["n_bytes"]:
        return False
    return bool(sha256_file(path) == entry["sha256"])


def _release(files: Sequence[Downloaded]) -> str:
    """Date of the newest gene_info: NCBI overwrites its files, and only the date identifies a release."""
    dates = []
    for file in files:
        if "gene_info" in file.name and file.last_modified:
            try:
                dates.append(parsedate_to_datetime(file.last_modified).date().isoformat())
            except (TypeError, ValueError):
                continue
    return max(dates, default="")
