"""Entrez through Biopython against a real server on loopback that answers in NCBI's own form, and badly."""

import gc
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from genekb.core.errors import NotAvailable, SourceUnusable, StoreBusy
from genekb.genes.resolve import resolve_names
from genekb.net.retry import RetryPolicy
from genekb.sources.entrez import read_answer, read_entrez_folder
from genekb.sources.entrez_fetch import FetchConfig, fetch_genes
from genekb.sources.open import read_source
from tests.support.in_process import call, call_json
from tests.support.loopback import Fault, serving

ROOT = Path(__file__).parents[3]
OPENING = (
    '<?xml version="1.0" encoding="UTF-8" ?>\n<!DOCTYPE eSummaryResult PUBLIC "-//NLM//DTD esummary gene 20150202//EN" '
    '"http://127.0.0.1:9/esummary_gene.dtd">\n'
)
HEAD = f'{OPENING}<eSummaryResult><DocumentSummarySet status="OK">\n'
SEARCH_HEAD = (
    '<?xml version="1.0" encoding="UTF-8" ?>\n<!DOCTYPE eSearchResult PUBLIC "-//NLM//DTD esearch 20060628//EN" '
    '"http://127.0.0.1:9/esearch.dtd">\n'
)
KEY, EMAIL = "key-0123456789abcdef", "someone@example.org"
REPLACED = {777: 915, 776: 777, 700: 701, 710: 711, 711: 710}  # 701 is withdrawn, 710 and 711 go in a circle
WITHDRAWN = {701}
SYMBOLS = {"CD3D": 915, "INS": 3630}


def document(uid):
    if uid in REPLACED:
        return f'<DocumentSummary uid="{uid}"><Name>OLD</Name><CurrentID>{REPLACED[uid]}</CurrentID></DocumentSummary>'
    symbol = next((name for name, gene_id in SYMBOLS.items() if gene_id == uid), f"G{uid}")
    return (
        f'<DocumentSummary uid="{uid}"><Name>{symbol}</Name><Description>name of {uid}</Description>'
        f"<Status>{2 if uid in WITHDRAWN else 0}</Status>"
        f"<CurrentID>0</CurrentID><OtherAliases>A{uid}, B{uid}</OtherAliases><OtherDesignations>x|y</OtherDesignations>"
        f"<NomenclatureSymbol>{symbol}</NomenclatureSymbol>"
        f"<Summary>Text of {uid}. [provided by RefSeq, Jul 2008]</Summary>"
        "<Organism><ScientificName>Homo sapiens</ScientificName><TaxID>9606</TaxID></Organism></DocumentSummary>"
    )


def search_answer(n_found, ids):
    content = f"<Count>{n_found}</Count><RetMax>20</RetMax><RetStart>0</RetStart><IdList>{ids}</IdList>"
    return f"{SEARCH_HEAD}<eSearchResult>{content}</eSearchResult>".encode()


class Ncbi:
    """Answers like NCBI: records of ids, but of at most 200; some ids dropped, some unknown."""

    def __init__(self):
        self.dropped, self.unknown, self.batches = set(), set(), []

    def esummary(self, fields):
        ids = [int(item) for item in fields["id"][0].split(",")]
        self.batches.append(ids)
        body = ""
        for uid in ids[:200]:
            if uid in self.unknown:
                body += f'<DocumentSummary uid="{uid}"><error>cannot get document summary</error></DocumentSummary>'
            elif uid not in self.dropped or len(ids) == 1:
                body += document(uid)
        return (HEAD + body + "</DocumentSummarySet></eSummaryResult>").encode()

    def esearch(self, fields):
        assert int(fields["retmax"][0]) >= 20
        found = [str(uid) for symbol, uid in SYMBOLS.items() if f'"{symbol}"[Preferred Symbol]' in fields["term"][0]]
        ids = "".join(f"<Id>{uid}</Id>" for uid in found)
        return search_answer(len(found), ids)


@pytest.fixture
def ncbi(monkeypatch):
    monkeypatch.setenv("NCBI_EMAIL", EMAIL)
    monkeypatch.setenv("NCBI_API_KEY", KEY)
    monkeypatch.delenv("no_proxy", raising=False)
    answers = Ncbi()
    with serving(files={"/esummary.fcgi": answers.esummary, "/esearch.fcgi": answers.esearch}) as server:
        server.answers = answers
        yield server


@pytest.fixture
def waits():
    return []


@pytest.fixture
def config(ncbi, tmp_path, waits):
    return FetchConfig(
        base_url=ncbi.url,
        retry=RetryPolicy(timeout_s=2, max_tries=3, sleep=waits.append),
        pause_s=0,
        rate_folder=tmp_path / "rate",
    )


def test_ids_and_symbols_become_records_and_a_source(ncbi, config, tmp_path):
    result = fetch_genes(["CD3D", "INS", "1234", "NOSUCH"], tmp_path / "out", config)
    assert (result.n_genes, result.missing) == (3, ("NOSUCH",))
    source = read_source(tmp_path / "out", taxa=["human"], release="today")
    rows = {row["gene_id"]: row for row in source.genes.to_pylist()}
    assert rows[915]["summary"] == "Text of 915."
    assert (rows[1234]["symbol"], rows[1234]["tax_id"], rows[1234]["designations"]) == ("G1234", 9606, ["x", "y"])
    found = resolve_names(["B915", "INS"], name_table=source.names, gene_ids=source.genes["gene_id"])
    assert found.gene_ids.tolist() == [915, 3630]
    assert (tmp_path / "out" / "missing.tsv").read_text() == "NOSUCH\n"


def test_no_call_asks_for_more_than_200_ids_and_every_id_is_answered(ncbi, config, tmp_path):
    ids = [str(number) for number in range(10_001, 10_452)]
    result = fetch_genes(ids, tmp_path / "out", config)
    assert [len(batch) for batch in ncbi.answers.batches] == [200, 200, 51]
    assert result.n_genes == 451


def test_ids_that_an_answer_lacks_are_asked_for_again_and_unknown_ones_are_listed(ncbi, config, tmp_path):
    ncbi.answers.dropped, ncbi.answers.unknown = {101, 102}, {103}
    result = fetch_genes([str(number) for number in range(100, 106)], tmp_path / "out", config)
    assert (result.n_genes, result.missing) == (5, ("103",))
    assert sorted(batch for batch in ncbi.answers.batches if len(batch) == 1) == [[101], [102], [103]]


def test_a_replaced_id_leads_to_the_gene_that_took_its_place(ncbi, config, tmp_path):
    result = fetch_genes(["777"], tmp_path / "out", config)
    assert (dict(result.replaced), result.missing) == ({777: 915}, ())
    source = read_entrez_folder(tmp_path / "out")
    found = resolve_names(["777"], name_table=source.names, gene_ids=source.genes["gene_id"])
    assert found.gene_ids.tolist() == [915]
    assert source.dropped == {"replaced by another GeneID": 1, "withdrawn": 0}


def test_ids_are_followed_as_often_as_they_were_replaced_and_none_is_lost_without_a_word(ncbi, config, tmp_path):
    result = fetch_genes(["776", "700", "701", "710", "1234", "0", "99999999999"], tmp_path / "out", config)
    assert (result.n_genes, result.missing) == (2, ("0", "700", "701", "710", "99999999999"))
    source = read_entrez_folder(tmp_path / "out")
    assert source.genes["gene_id"].to_pylist() == [915, 1234]
    assert source.dropped == {"replaced by another GeneID": 5, "withdrawn": 1}
    found = resolve_names(["776", "700"], name_table=source.names, gene_ids=source.genes["gene_id"])
    assert found.gene_ids.tolist() == [915, 0]


def test_a_name_that_would_change_the_search_is_not_sent(ncbi, config, tmp_path):
    odd = ['X" OR "Y', "all[filter]", "two words"]
    result = fetch_genes([*odd, "INS"], tmp_path / "out", config)
    assert (result.n_genes, result.missing) == (1, tuple(sorted(odd)))
    (fields,) = [fields for path, _, fields in ncbi.requests if path == "/esearch.fcgi"]
    assert fields["term"] == ['("INS"[Preferred Symbol]) AND 9606[Taxonomy ID] AND alive[property]']


def test_a_search_that_names_fewer_genes_than_it_found_is_refused(ncbi, config, tmp_path):
    ncbi.files["/esearch.fcgi"] = search_answer(2, "<Id>915</Id>")
    with pytest.raises(SourceUnusable, match="found 2 genes for 1 symbols and named 1"):
        fetch_genes(["INS"], tmp_path / "out", config)


@pytest.mark.parametrize(
    "page",
    [
        b"<html><body>Be patient.</body></html>",
        b"Be patient.",
        b"<eSummaryResult><ERROR>Search Backend failed</ERROR></eSummaryResult>",
        f"{OPENING}<eSummaryResult><ERROR>Search Backend failed</ERROR></eSummaryResult>".encode(),
        search_answer(0, ""),
        f'{HEAD}<DocumentSummary uid="915"></DocumentSummary>'.encode(),
        b'<!DOCTYPE x [<!ENTITY a "b">]><eSummaryResult/>',
    ],
)
def test_a_page_in_place_of_an_answer_is_asked_for_again_and_never_kept(ncbi, config, tmp_path, waits, page):
    answer, pages = ncbi.files["/esummary.fcgi"], [page]
    ncbi.files["/esummary.fcgi"] = lambda fields: pages.pop() if pages else answer(fields)
    result = fetch_genes(["915"], tmp_path / "out", config)
    assert (result.n_genes, result.n_calls, len(waits)) == (1, 2, 1)
    pages += [page] * 3
    with pytest.raises(NotAvailable, match="in 3 tries"):
        fetch_genes(["915"], tmp_path / "other", config)
    assert not list((tmp_path / "other").glob("esummary*"))


def test_a_record_that_two_answers_lack_is_asked_for_again_by_the_next_run(ncbi, config, tmp_path):
    answer = ncbi.files["/esummary.fcgi"]
    ncbi.files["/esummary.fcgi"] = (HEAD + "</DocumentSummarySet></eSummaryResult>").encode()
    assert fetch_genes(["915"], tmp_path / "out", config).missing == ("915",)
    ncbi.files["/esummary.fcgi"] = answer
    assert fetch_genes(["915"], tmp_path / "out", config).n_genes == 1


def test_a_folder_is_fetched_into_by_one_process_at_a_time(config, tmp_path):
    import filelock

    (tmp_path / "out").mkdir()
    with filelock.FileLock(tmp_path / "out" / ".fetch.lock"), pytest.raises(StoreBusy, match="another process fetches"):
        fetch_genes(["915"], tmp_path / "out", config)


@pytest.mark.parametrize("place", ["out", "rate"])
def test_a_folder_that_cannot_be_written_is_one_line(ncbi, config, tmp_path, waits, place):
    (tmp_path / place).write_text("in the way")
    with pytest.raises(NotAvailable, match=r"cannot (write to|note the time of a call in) "):
        fetch_genes(["915"], tmp_path / "out", config)
    assert (ncbi.requests, waits) == ([], [])


@pytest.mark.parametrize("url", ["", "ncbi", "ftp://x/", "http://x:port/"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ValueError, match="base_url must be an address"):
        FetchConfig(base_url=url)


def test_an_interrupted_fetch_goes_on_and_asks_nothing_twice(ncbi, config, tmp_path):
    ids = [str(number) for number in range(10_001, 10_402)]
    ncbi.faults["/esummary.fcgi"] = [Fault(), *[Fault(status=500)] * 3]
    with pytest.raises(NotAvailable, match="answers so far are kept"):
        fetch_genes(ids, tmp_path / "out", config)
    result = fetch_genes(ids, tmp_path / "out", config)
    assert (result.n_genes, result.n_calls) == (401, 2)
    assert fetch_genes(ids, tmp_path / "out", config).n_calls == 0
    with pytest.raises(SourceUnusable, match="holds the answers to another list"):
        fetch_genes(ids[:3], tmp_path / "out", config)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, headers={"Retry-After": "9"}),
        Fault(status=503, headers={"Retry-After": "9"}),
        Fault(status=500),
        Fault(cut_after=100),
    ],
)
def test_a_call_that_fails_is_made_again_later(ncbi, config, tmp_path, waits, fault):
    ncbi.faults["/esummary.fcgi"] = [fault]
    assert fetch_genes(["915"], tmp_path / "out", config).n_genes == 1
    assert len(waits) == 1
    assert waits[0] >= (9 if "Retry-After" in fault.headers else 1)


@pytest.mark.parametrize("location", ["file:///x", "http://[", f"http://{'a' * 64}.org/", "/esummary.fcgi"])
def test_a_redirect_that_no_try_can_follow_is_not_tried_again(ncbi, config, tmp_path, waits, location):
    ncbi.faults["/esummary.fcgi"] = [Fault(status=302, headers={"Location": location})] * 99
    with pytest.raises(
        NotAvailable, match=r"redirects (without end|to something other than a web address); check the address"
    ):
        fetch_genes(["915"], tmp_path, config)
    gc.collect()
    assert waits == []


def test_a_server_that_hangs_is_not_waited_for(ncbi, config, tmp_path):
    gate = threading.Event()
    ncbi.faults["/esummary.fcgi"] = [Fault(cut_after=10, gate=gate)] * 3
    with pytest.raises(NotAvailable, match="in 3 tries"):
        fetch_genes(["915"], tmp_path / "out", replace(config, retry=replace(config.retry, timeout_s=0.2)))
    gate.set()


def test_neither_key_nor_address_reach_an_error_a_log_or_a_file(ncbi, config, tmp_path, caplog):
    ncbi.faults["/esummary.fcgi"] = [Fault(status=500)] * 2 + [Fault(status=400)]
    with caplog.at_level("DEBUG"), pytest.raises(NotAvailable, match="status 400") as caught:
        fetch_genes(["915"], tmp_path / "out", config)
    told = f"{caught.value} {caught.value.__cause__} {caplog.text}"
    fetch_genes(["915"], tmp_path / "out", config)
    ncbi.files["/esummary.fcgi"] = lambda fields: (
        f"{HEAD}<DbBuild>{fields}</DbBuild></DocumentSummarySet></eSummaryResult>".encode()
    )
    fetch_genes(["916"], tmp_path / "echo", config)
    told += "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY not in told
    assert EMAIL not in told
    fields = ncbi.requests[-1][2]
    assert (fields["api_key"], fields["email"], fields["tool"]) == ([KEY], [EMAIL], ["genekb"])


def test_without_an_address_nothing_is_sent(ncbi, config, tmp_path, monkeypatch):
    monkeypatch.delenv("NCBI_EMAIL")
    with pytest.raises(NotAvailable, match="set NCBI_EMAIL"):
        fetch_genes(["915"], tmp_path / "out", config)
    assert ncbi.requests == []


def test_without_a_network_the_other_way_is_told_at_once(ncbi, config, tmp_path, waits):
    with pytest.raises(NotAvailable, match=r"cannot be reached; .*`genekb build` .`source`"):
        fetch_genes(["915"], tmp_path / "out", replace(config, base_url="http://127.0.0.1:9/"))
    assert waits == []


@pytest.mark.slow
def test_two_processes_never_call_faster_than_one_may(ncbi, tmp_path):
    import time

    arrivals = []
    answer = ncbi.files["/esummary.fcgi"]

    def noted(fields):
        arrivals.append(time.monotonic())
        return answer(fields)

    ncbi.files["/esummary.fcgi"] = noted
    code = (
        "import sys; from pathlib import Path; from genekb.sources.entrez_fetch import *;"
        "import genekb.sources.entrez_fetch as f;"
        "f.MOST_IDS = 1;"
        "fetch_genes(sys.argv[3:], Path(sys.argv[1]), FetchConfig(base_url=sys.argv[2], pause_s=0.15,"
        "rate_folder=Path(sys.argv[1]).parent / 'rate'))"
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / name), ncbi.url, *ids], env=environment, cwd=ROOT)
        for name, ids in (("a", ["1", "2", "3"]), ("b", ["4", "5", "6"]))
    ]
    assert [process.wait(60) for process in processes] == [0, 0]
    gaps = [later - earlier for earlier, later in zip(sorted(arrivals), sorted(arrivals)[1:], strict=False)]
    assert len(arrivals) == 6
    assert min(gaps) >= 0.14


def test_the_command_fetches_what_the_next_one_builds_from(ncbi, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "genes.txt").write_text("CD3D\n3630\n777\nNOSUCH\n")
    args = ["--gene", tmp_path / "genes.txt", "--taxon", "human", "--mirror", ncbi.url]
    content = call_json("genekb", "download", tmp_path / "out", *args)
    assert (content["n_genes"], content["replaced"], content["missing"]) == (2, {"777": 915}, ["NOSUCH"])
    built = call_json(
        "genekb", "build", "--source", tmp_path / "out", "--model", "hash-256", "--home", tmp_path / "home"
    )
    assert (built["store"], built["n_genes"], built["n_texts"]) == ("human@out", 2, 2)
    assert call("genekb", "download", tmp_path / "out", *args[:-1], "nowhere")[0] == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("<eSummaryResult><Docu", "unclosed token"),
        (f"{OPENING}<eSummaryResult><Docu", "unclosed token"),
        ('<?xml version="1.0"?><eSummaryResult/>', "neither a Document Type Definition"),
        (OPENING.replace("esummary_gene", "other"), r"document type 'other\.dtd' is not known"),
        (f'{OPENING}<eSummaryResult xmlns:xsi="x" x:noNamespaceSchemaLocation="a.xsd"/>', "damaged"),
        (f"{OPENING}<eSummaryResult></eSummaryResult>", "not of esummary"),
        (f'{HEAD}<DocumentSummary uid="x"/></DocumentSummarySet></eSummaryResult>', "damaged"),
        (f"{HEAD}</DocumentSummarySet></eSummaryResult>", "holds no answer with a current gene"),
        (
            f"{OPENING}<eSummaryResult><ERROR>Invalid uid</ERROR></eSummaryResult>".replace("_gene", "-v1"),
            "'Invalid uid' in place of an answer",
        ),
    ],
)
def test_an_answer_that_is_none_is_told_in_one_line(tmp_path, content, told):
    (tmp_path / "esummary.xml").write_text(content)
    with pytest.raises(SourceUnusable, match=told):
        read_entrez_folder(tmp_path)


BOMB = "".join(f'<!ENTITY {name} "{(f"&{below};" * 50)}">' for below, name in zip("abcdef", "bcdefg", strict=True))


@pytest.mark.parametrize(
    ("entities", "content"),
    [
        ('<!ENTITY x SYSTEM "file:///etc/hostname">', "&x;"),
        ('<!ENTITY x SYSTEM "/etc/hostname">', "&x;"),
        ('<!ENTITY x SYSTEM "https://www.ncbi.nlm.nih.gov/x.txt">', "&x;"),
        (f'<!ENTITY a "{"a" * 1000}">{BOMB}', "&g;"),
    ],
)
def test_entities_read_no_file_ask_no_server_and_fill_no_memory(tmp_path, entities, content):
    head = HEAD.replace('.dtd">', f'.dtd" [{entities}]>')
    body = f'<DocumentSummary uid="7"><Name>{content}</Name></DocumentSummary></DocumentSummarySet></eSummaryResult>'
    (tmp_path / "esummary.xml").write_text(head + body)
    with pytest.raises(SourceUnusable, match="is no answer of NCBI's"):
        read_entrez_folder(tmp_path)


@pytest.mark.slow
def test_real_answers_are_read(real_data):
    folder = real_data / "ncbi" / "eutils"
    (mouse,) = read_answer(folder / "esummary_gene_21803_v2.xml")
    assert (mouse.gene_id, mouse.row["symbol"], mouse.row["tax_id"]) == (21803, "Tgfb1", 10090)
    assert "Tgfb-1" in mouse.row["aliases"]
