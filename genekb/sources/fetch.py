"""A few genes from NCBI's E-utilities, through Biopython; the answers are kept as files, which are a source."""

import os
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from genekb.errors import NotAvailable, SourceUnusable
from genekb.files import atomic_file, write_json, write_text
from genekb.sources.entrez import EntrezRecord, read_answer
from genekb.sources.rate import RateLimit, TryAgain, retry_after_s, with_tries
from genekb.sources.taxa import find_taxon

BASE_URL: Final = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/"
MOST_IDS: Final = 200  # a call; more are cut off without a word
MOST_SYMBOLS: Final = 50
PLAN: Final = "fetch.json"
MISSING: Final = "missing.tsv"
_BUSY: Final = frozenset({408, 429})
_SERVER_ERROR: Final = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchConfig:
    """How NCBI is asked; the e-mail address and the key come from NCBI_EMAIL and NCBI_API_KEY alone.

    Parameters
    ----------
    taxon
        Species of the symbols.
    base_url
        Address that stands for NCBI's folder of E-utilities.
    timeout_s
        Longest silence of the server.
    max_tries
        Of each call.
    pause_s
        Between two calls of all processes on this machine; by NCBI's rules if left out (3 a second, 10 with a key).
    rate_folder
        Where the time of the last call is noted; the user's cache folder if left out.
    sleep
        Waits between tries, in seconds.
    """

    taxon: str = "human"
    base_url: str = BASE_URL
    timeout_s: float = 60.0
    max_tries: int = 6
    pause_s: float | None = None
    rate_folder: Path | None = None
    sleep: Callable[[float], None] = field(default=time.sleep, repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchResult:
    """What a fetch ended with.

    Parameters
    ----------
    folder
        Where the answers lie.
    n_genes
        Current genes in them.
    n_calls
        Calls that were made now.
    replaced
        GeneIDs that have been replaced, and by which.
    missing
        Names or GeneIDs for which NCBI has no gene.
    """

    folder: Path
    n_genes: int
    n_calls: int
    replaced: Mapping[int, int]
    missing: tuple[str, ...]


def fetch_genes(
    names: Sequence[str], folder: Path, config: FetchConfig, *, progress: Callable[[int, int], None] | None = None
) -> FetchResult:
    """Fetch the records of some genes, or go on with a fetch that was interrupted.

    Parameters
    ----------
    names
        GeneIDs and current symbols of ``config.taxon``, mixed.
    progress
        Called with the ids that have been answered, and all of them.

    Raises
    ------
    NotAvailable
        If NCBI cannot be reached, refuses, or NCBI_EMAIL is not set.
    SourceUnusable
        If no name is given, or the folder holds the answers to another list.
    """
    wanted = sorted({name.strip() for name in names if name.strip()})
    if not wanted:
        raise SourceUnusable("no gene was named; give symbols or GeneIDs, one a line")
    _check_plan(folder, wanted, config)
    client = _Client(config)
    ids = {int(name) for name in wanted if name.isdecimal()}
    symbols = [name for name in wanted if not name.isdecimal()]
    for start in range(0, len(symbols), MOST_SYMBOLS):
        ids |= client.search(symbols[start : start + MOST_SYMBOLS], _part(folder, "esearch", start))
    records = _fetch_all(sorted(ids), client, folder, "esummary", progress)
    replaced = {record.gene_id: record.current_id for record in records.values() if record.current_id}
    new = sorted(set(replaced.values()) - records.keys())
    records |= _fetch_all(new, client, folder, "esummary-current", progress)
    current = {key: record for key, record in records.items() if not record.current_id}
    known = {record.row["symbol"] for record in current.values()} | {
        name for record in current.values() for name in record.names.get("authority_symbol", [])
    }
    missing = [str(key) for key in sorted(ids - records.keys()) if str(key) in wanted]
    missing += [symbol for symbol in symbols if symbol not in known]
    write_text("".join(f"{name}\n" for name in missing), folder / MISSING)
    return FetchResult(
        folder=folder, n_genes=len(current), n_calls=client.n_calls, replaced=replaced, missing=tuple(missing)
    )


def _check_plan(folder: Path, wanted: Sequence[str], config: FetchConfig) -> None:
    """Note what is asked for; answers to another list are left alone."""
    import json

    plan = {"names": sha256("\n".join(wanted).encode()).hexdigest(), "tax_id": int(find_taxon(config.taxon).tax_id)}
    try:
        found = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = None
    except ValueError:
        found = {}
    if found is not None and found != plan:
        raise SourceUnusable(f"{folder} holds the answers to another list of genes; give another folder")
    try:
        write_json(plan, folder / PLAN)
    except OSError as error:
        raise NotAvailable(f"cannot write to {folder}: {error.strerror}; give another folder") from error


def _part(folder: Path, stem: str, start: int) -> Path:
    return folder / f"{stem}-{start:05d}.xml"


def _fetch_all(
    ids: Sequence[int], client: "_Client", folder: Path, stem: str, progress: Callable[[int, int], None] | None
) -> dict[int, EntrezRecord]:
    """Get the records of all ids batch by batch; ids that an answer lacks are asked for once more, one by one."""
    records: dict[int, EntrezRecord] = {}
    for start in range(0, len(ids), MOST_IDS):
        batch = ids[start : start + MOST_IDS]
        found = client.summaries(batch, _part(folder, stem, start))
        for gene_id in [key for key in batch if key not in found]:
            found |= client.summaries([gene_id], folder / f"{stem}-single-{gene_id}.xml")
        records |= found
        if progress:
            progress(min(start + MOST_IDS, len(ids)), len(ids))
    return records


class _Client:
    """Calls of Biopython's Entrez, paced, timed and repeated; every answer becomes a file before it is read."""

    def __init__(self, config: FetchConfig) -> None:
        import platformdirs

        self._config = config
        self._email = os.environ.get("NCBI_EMAIL", "").strip()
        self._key = os.environ.get("NCBI_API_KEY", "").strip() or None
        if not self._email:
            raise NotAvailable("NCBI asks for an e-mail address with every call; set NCBI_EMAIL (and NCBI_API_KEY)")
        pause = config.pause_s if config.pause_s is not None else (0.1 if self._key else 0.34)
        folder = config.rate_folder or Path(platformdirs.user_cache_dir("genekb", appauthor=False))
        self._rate = RateLimit(folder=folder, name="eutils", pause_s=pause)
        self.n_calls = 0

    def search(self, symbols: Sequence[str], path: Path) -> set[int]:
        """Find the GeneIDs of current genes that have one of these symbols."""
        from xml.etree import ElementTree

        either = " OR ".join(f'"{symbol}"[Preferred Symbol]' for symbol in symbols)
        term = f"({either}) AND {find_taxon(self._config.taxon).tax_id}[Taxonomy ID] AND alive[property]"
        content = self._ask("esearch", path, {"db": "gene", "term": term, "retmax": 20 * len(symbols)})
        return {int(item.text or 0) for item in ElementTree.fromstring(content).iterfind(".//IdList/Id")}

    def summaries(self, ids: Sequence[int], path: Path) -> dict[int, EntrezRecord]:
        """Get the records of some ids, as far as NCBI has them."""
        self._ask("esummary", path, {"db": "gene", "id": ",".join(map(str, ids)), "version": "2.0", "retmode": "xml"})
        wanted = set(ids)
        return {record.gene_id: record for record in read_answer(path) if record.gene_id in wanted}

    def _ask(self, utility: str, path: Path, fields: Mapping[str, Any]) -> bytes:
        """Give the answer to a call, from its file where that is there."""
        if path.is_file():
            return path.read_bytes()
        try:
            content = with_tries(
                lambda: self._call(utility, fields), max_tries=self._config.max_tries, sleep=self._config.sleep
            )
        except TryAgain as error:
            raise NotAvailable(
                f"NCBI's E-utilities did not answer in {self._config.max_tries} tries ({error}); answers so far are "
                "kept: run the same command again, or build from NCBI's bulk files with `genekb build --source FOLDER`"
            ) from None
        with atomic_file(path) as part:
            part.write_bytes(content)
        return content

    def _call(self, utility: str, fields: Mapping[str, Any]) -> bytes:
        """Make one call; errors carry no address, since the key stands in it."""
        from Bio import Entrez

        self.n_calls += 1
        try:
            with (
                self._rate.turn(),
                _biopython(self._config, email=self._email, key=self._key),
                getattr(Entrez, utility)(**fields) as handle,
            ):
                content = handle.read()
        except urllib.error.HTTPError as error:
            wait = retry_after_s(error.headers.get("Retry-After", "") if error.headers else "")
            error.close()
            if error.code in _BUSY or error.code >= _SERVER_ERROR:
                raise TryAgain(f"status {error.code}", wait_s=wait) from None
            raise NotAvailable(
                f"NCBI's E-utilities refuse the call with status {error.code}; is the key right?"
            ) from None
        except (urllib.error.URLError, OSError, HTTPException) as error:
            if self.n_calls == 1 and isinstance(
                getattr(error, "reason", None), socket.gaierror | ConnectionRefusedError
            ):
                raise NotAvailable(
                    "NCBI's E-utilities cannot be reached; check the network, or build from NCBI's bulk files with "
                    "`genekb build --source FOLDER`"
                ) from None
            raise TryAgain(type(error).__name__) from None
        content = content if isinstance(content, bytes) else content.encode()
        if b"</" not in content[-200:]:
            raise TryAgain("the answer was cut off")
        return content


@contextmanager
def _biopython(config: FetchConfig, *, email: str, key: str | None) -> Iterator[None]:
    """Set Biopython's module-wide settings inside the block: one try, a timeout, who asks, and where.

    It has no timeout of its own, and on a busy server it tries again at once.
    """
    from Bio import Entrez

    before = (Entrez.email, Entrez.api_key, Entrez.max_tries, Entrez.tool)
    timeout = socket.getdefaulttimeout()
    opener = urllib.request._opener  # type: ignore[attr-defined]  # what install_opener sets, to set it back
    Entrez.email, Entrez.api_key, Entrez.max_tries, Entrez.tool = email, key, 1, "genekb"
    socket.setdefaulttimeout(config.timeout_s)
    if config.base_url != BASE_URL:
        urllib.request.install_opener(urllib.request.build_opener(_Elsewhere(config.base_url)))
    try:
        yield
    finally:
        Entrez.email, Entrez.api_key, Entrez.max_tries, Entrez.tool = before
        socket.setdefaulttimeout(timeout)
        urllib.request.install_opener(opener)


class _Elsewhere(urllib.request.BaseHandler):
    """Sends what Biopython addresses to NCBI to another address."""

    handler_order = 100  # before the handlers that fill in the host

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url.rstrip("/") + "/"

    def https_request(self, request: urllib.request.Request) -> urllib.request.Request:
        """Rewrite the address."""
        address = request.full_url.replace(BASE_URL, self._base_url, 1)
        moved = urllib.request.Request(address, data=request.data, method=request.get_method())
        moved.timeout = request.timeout
        if request.data is not None:
            moved.add_header("Content-Type", "application/x-www-form-urlencoded")
        return moved
