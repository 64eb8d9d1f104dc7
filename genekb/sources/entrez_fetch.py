"""A few genes from NCBI's E-utilities, through Biopython; the answers are kept as files, which are a source."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_string
from hashlib import sha256
from importlib.util import find_spec, module_from_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.request import Request
from urllib.response import addinfourl

from genekb.core.addresses import is_web_address
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.plugins import require
from genekb.core.progress import progress
from genekb.core.python import for_python
from genekb.files.atomic import atomic_file, write_json, write_text
from genekb.genes.taxa import find_taxon
from genekb.net.client import ask, blocks_of, open_client
from genekb.net.download import own_folder
from genekb.net.retry import RateLimit, RetryPolicy, TryAgain
from genekb.sources.entrez import MALFORMED, EntrezRecord, current_gene, read_answer, read_xml

if TYPE_CHECKING:
    import httpx

BASE_URL: Final = "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/"
MOST_IDS: Final = 200  # a call; more are cut off without a word
MOST_SYMBOLS: Final = 50
PLAN: Final = "fetch.json"
MISSING: Final = "missing.tsv"
_GENE_ID: Final = re.compile(r"[1-9][0-9]{0,9}")
_SYMBOL: Final = re.compile(r"[^\s\"\[\]]+")  # anything else would change the meaning of a search
_BY_HAND: Final = "or build from NCBI's bulk files with `genekb build` (`source`)"
_REFUSED: Final = "NCBI's E-utilities refuse the call with status {status}; is the key right?"


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchConfig:
    """How NCBI is asked; the e-mail address and the key come from NCBI_EMAIL and NCBI_API_KEY alone."""

    taxon: str = "human"  # species of the symbols
    base_url: str = BASE_URL  # in place of NCBI's folder of E-utilities
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    # between two calls of all processes of a machine; NCBI's rules: 3 a second, 10 with key
    pause_s: float | None = None
    rate_folder: Path | None = None  # where the time of the last call is noted; the user's cache folder if left out

    def __post_init__(self) -> None:
        """Check the address."""
        if not is_web_address(self.base_url):
            raise ValueError("base_url must be an address http(s)://host[:port]/path")


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchResult:
    """What a fetch ended with."""

    folder: Path  # where the answers lie
    n_genes: int  # current genes in them
    n_calls: int  # calls that were made now
    replaced: Mapping[int, int]  # GeneIDs that have been replaced, and by which
    missing: tuple[str, ...]  # names and GeneIDs for which NCBI has no current gene


@for_python
def fetch(
    folder: str | Path,
    gene_list: str | Path | Sequence[str],
    *,
    taxon: str = "human",
    base_url: str = BASE_URL,
    timeout_s: float = 60.0,
) -> FetchResult:
    """Fetch the records of some genes from NCBI's E-utilities, as `genekb download --gene` does, or go on with a fetch.

    The e-mail address that NCBI asks for comes from ``NCBI_EMAIL``, the key from ``NCBI_API_KEY``.

    Parameters
    ----------
    folder
        Folder for the records; made if it is not there.
    gene_list
        GeneIDs and current symbols of ``taxon``, mixed, or a file with one a line.
    taxon
        Species by name or NCBI taxonomy id.
    base_url
        Address in place of NCBI's E-utilities.
    timeout_s
        Longest silence of the server, in seconds.
    """
    if isinstance(gene_list, str | Path):
        gene_list = Path(gene_list).read_text(encoding="utf-8").splitlines()
    config = FetchConfig(taxon=taxon, base_url=base_url, retry=RetryPolicy(timeout_s=timeout_s))
    return fetch_genes(gene_list, Path(folder), config)


def fetch_genes(names: Sequence[str], folder: Path, config: FetchConfig) -> FetchResult:
    """Fetch the records of some genes, or go on with a fetch that was interrupted.

    ``names``: GeneIDs and current symbols of ``config.taxon``, mixed.
    """
    wanted = sorted({name.strip() for name in names if name.strip()})
    if not wanted:
        raise SourceUnusable("no gene was named; give symbols or GeneIDs, one a line")
    with own_folder(folder, lock=".fetch.lock", work="fetches"), open_client(config.retry.timeout_s) as web:
        _check_plan(folder, wanted, config)
        client = _Client(config, web)
        ids = {int(name) for name in wanted if _GENE_ID.fullmatch(name)}
        symbols = [name for name in wanted if not name.isdecimal() and _SYMBOL.fullmatch(name)]
        for start in range(0, len(symbols), MOST_SYMBOLS):
            ids |= client.search(symbols[start : start + MOST_SYMBOLS], _part(folder, "esearch", start))
        records = _fetch_current(ids, client, folder)
        missing = _missing(wanted, records)
        write_text("".join(f"{name}\n" for name in missing), folder / MISSING)
    return FetchResult(
        folder=folder,
        n_genes=sum(current_gene(key, records) == key for key in records),
        n_calls=client.n_calls,
        replaced={key: record.current_id for key, record in records.items() if record.current_id},
        missing=tuple(missing),
    )


def _fetch_current(ids: set[int], client: "_Client", folder: Path) -> dict[int, EntrezRecord]:
    """Get the records of all ids, and those that replaced them, as often as these were replaced too."""
    records: dict[int, EntrezRecord] = {}
    asked: set[int] = set()
    n_hops = 0
    while new := ids - asked:
        stem = f"esummary-current-{n_hops}" if n_hops else "esummary"
        records |= _fetch_all(sorted(new), client, folder=folder, stem=stem)
        asked |= new
        ids = {record.current_id for record in records.values() if record.current_id}
        n_hops += 1
    return records


def _missing(wanted: Sequence[str], records: Mapping[int, EntrezRecord]) -> list[str]:
    """Names that map to no current gene, in order; a GeneID that was replaced maps to its replacement."""
    current = [record for key, record in records.items() if current_gene(key, records) == key]
    known = {record.row["symbol"] for record in current}
    known |= {name for record in current for name in record.names.get("authority_symbol", [])}
    return [
        name for name in wanted if (current_gene(int(name), records) is None if name.isdecimal() else name not in known)
    ]


def _check_plan(folder: Path, wanted: Sequence[str], config: FetchConfig) -> None:
    """Note what is asked for, if the folder holds no answers to another list."""
    plan = {"names": sha256("\n".join(wanted).encode()).hexdigest(), "tax_id": int(find_taxon(config.taxon).tax_id)}
    try:
        found = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except FileNotFoundError:
        found = plan
    except ValueError:
        found = None
    if found != plan:
        raise SourceUnusable(f"{folder} holds the answers to another list of genes; give another folder")
    write_json(plan, folder / PLAN)


def _part(folder: Path, stem: str, start: int) -> Path:
    return folder / f"{stem}-{start:05d}.xml"


def _fetch_all(ids: Sequence[int], client: "_Client", *, folder: Path, stem: str) -> dict[int, EntrezRecord]:
    """Get the records of all ids batch by batch; ids that an answer lacks are asked for once more, one by one."""
    records: dict[int, EntrezRecord] = {}
    for start in range(0, len(ids), MOST_IDS):
        batch = ids[start : start + MOST_IDS]
        found = client.summaries(batch, _part(folder, stem, start))
        for gene_id in [key for key in batch if key not in found]:
            found |= client.summaries([gene_id], folder / f"{stem}-single-{gene_id}.xml")
        records |= found
        progress("genes", min(start + MOST_IDS, len(ids)), len(ids))
    return records


class _Client:
    """Calls of Biopython's Entrez, paced, timed and repeated; every answer becomes a file before it is read."""

    def __init__(self, config: FetchConfig, web: "httpx.Client") -> None:
        import platformdirs

        require("Bio", needed_by="NCBI's E-utilities need")
        self._config = config
        email, key = (os.environ.get(name, "").strip() or None for name in ("NCBI_EMAIL", "NCBI_API_KEY"))
        if not email:
            raise NotAvailable("NCBI asks for an e-mail address with every call; set NCBI_EMAIL (and NCBI_API_KEY)")
        self._who = {"tool": "genekb", "email": email, "api_key": key}
        self._web, self._entrez = web, _open_entrez(self._send)
        pause = config.pause_s if config.pause_s is not None else (0.1 if key else 0.34)
        folder = config.rate_folder or Path(platformdirs.user_cache_dir("genekb", appauthor=False))
        self._rate = RateLimit(folder=folder, name="eutils", pause_s=pause)
        self.n_calls = 0

    def search(self, symbols: Sequence[str], path: Path) -> set[int]:
        """Find the GeneIDs of current genes that have one of these symbols."""
        either = " OR ".join(f'"{symbol}"[Preferred Symbol]' for symbol in symbols)
        term = f"({either}) AND {find_taxon(self._config.taxon).tax_id}[Taxonomy ID] AND alive[property]"
        self._ask("esearch", path, {"db": "gene", "term": term, "retmax": 20 * len(symbols)})
        try:
            answer = read_xml(path, utility="esearch", folder=path.parent)
            ids, n_found = set(map(int, answer["IdList"])), int(answer["Count"])
        except MALFORMED as error:
            raise SourceUnusable(f"{path} is damaged ({error}); delete it and run `genekb download` again") from error
        if len(ids) != n_found:
            raise SourceUnusable(
                f"{path}: NCBI found {n_found} genes for {len(symbols)} symbols and named "
                f"{len(ids)}; give their GeneIDs in place of the symbols"
            )
        return ids

    def summaries(self, ids: Sequence[int], path: Path) -> dict[int, EntrezRecord]:
        """Get the records of some ids, as far as NCBI has them."""
        self._ask("esummary", path, {"db": "gene", "id": ",".join(map(str, ids)), "version": "2.0", "retmode": "xml"})
        wanted = set(ids)
        found = {record.gene_id: record for record in read_answer(path) if record.gene_id in wanted}
        if len(ids) == 1 and not found and b"<error>" not in path.read_bytes():
            path.unlink()  # NCBI did not report it, which may be otherwise next time
        return found

    def _ask(self, utility: str, path: Path, fields: Mapping[str, Any]) -> None:
        """Write the answer to a call into a file, where it is not there yet."""
        if path.is_file():
            return
        content = self._config.retry.call(
            lambda: self._call(utility, fields, folder=path.parent),
            failure="NCBI's E-utilities did not answer",
            hint=f"answers so far are kept: run the same command again, {_BY_HAND}",
        )
        with atomic_file(path) as part:
            part.write_bytes(content)

    def _call(self, utility: str, fields: Mapping[str, Any], *, folder: Path) -> bytes:
        """Make one call; its answer holds no secret."""
        self.n_calls += 1
        with self._rate.turn(), getattr(self._entrez, utility)(**fields, **self._who) as handle:
            content: bytes = handle.read()
        for secret in filter(None, (self._who["api_key"], self._who["email"])):
            content = content.replace(secret.encode(), b"[secret]")
        try:
            read_xml(BytesIO(content), utility=utility, folder=folder)
        except MALFORMED:  # a page of a proxy, or an error of NCBI's with status 200
            raise TryAgain(f"the answer is cut off, an error, or not of {utility}") from None
        return content

    def _send(self, request: Request) -> addinfourl:
        """Send a request of Biopython's as a form: no log or error holds what stands in its body."""
        import httpx

        base = self._config.base_url.rstrip("/") + "/"
        address, _, query = request.full_url.replace(BASE_URL, base, 1).partition("?")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        content: Any = request.data or query.encode()
        try:
            with ask(self._web, "POST", address, form, refusal=_REFUSED, content=content) as response:
                answer = b"".join(blocks_of(response))
        except TryAgain as error:
            if self.n_calls == 1 and isinstance(error.__cause__, httpx.ConnectError):
                raise NotAvailable(f"NCBI's E-utilities cannot be reached; check the network, {_BY_HAND}") from None
            raise
        return addinfourl(BytesIO(answer), message_from_string("Content-Type: text/xml"), address)


def _open_entrez(send: Callable[[Request], addinfourl]) -> Any:
    """Load Biopython's Entrez for one fetch alone: it has no options for the address and timeout of its requests."""
    spec: Any = find_spec("Bio.Entrez")
    entrez: Any = module_from_spec(spec)
    spec.loader.exec_module(entrez)
    entrez.urlopen = send
    return entrez
