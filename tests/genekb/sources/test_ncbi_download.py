"""Downloads from a real server on loopback that cuts, refuses, lies and changes its files."""

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from genekb.core.errors import NotAvailable, SourceUnusable, StoreBusy
from genekb.genes.taxa import find_taxon
from genekb.net.retry import RetryPolicy
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.ncbi_download import DEFAULT_FILES, DownloadConfig, download_release
from tests.support.in_process import call, call_json
from tests.support.loopback import Fault, serving

ROOT = Path(__file__).parents[3]
INFO = "/Homo_sapiens.gene_info.gz"
NESTED = "/GENE_INFO/Mammalia/Homo_sapiens.gene_info.gz"


@pytest.fixture(scope="module")
def release(ncbi_folder):
    return {f"/{path.name}": path.read_bytes() for path in ncbi_folder.iterdir()}


@pytest.fixture
def mirror(release):
    with serving(files=dict(release)) as server:
        yield server


@pytest.fixture
def waits():
    return []


@pytest.fixture
def config(mirror, waits):
    return DownloadConfig(mirror=mirror.url, retry=RetryPolicy(max_tries=4, timeout_s=5, sleep=waits.append))


def test_a_downloaded_release_is_the_one_that_was_served(mirror, config, release, ncbi_folder, tmp_path):
    result = download_release(tmp_path / "new", config)
    assert {file.name for file in result.files} == {INFO[1:], "gene_summary.gz", "gene_orthologs.gz"}
    for file in result.files:
        assert (tmp_path / "new" / file.name).read_bytes() == release[f"/{file.name}"]
    assert result.release == "2022-11-01"
    ours, theirs = (read_ncbi_folder(folder, taxa=["human"]) for folder in (tmp_path / "new", ncbi_folder))
    assert ours.genes.equals(theirs.genes)
    assert ours.names.equals(theirs.names)
    record = json.loads((tmp_path / "new" / "download.json").read_text())
    assert record[INFO[1:]]["n_bytes"] == len(release[INFO])


def test_ncbis_folders_are_tried_before_a_flat_mirror(release, tmp_path):
    files = {NESTED: release[INFO], "/gene_summary.gz": release["/gene_summary.gz"]}
    with serving(files=files) as server:
        config = DownloadConfig(mirror=server.url, files=("gene_info", "gene_summary"))
        result = download_release(tmp_path, config)
    assert result.files[0].url.endswith(NESTED)


def test_ncbis_folders_beside_gene_data_are_looked_for_on_the_mirrors_own_host(release, tmp_path):
    with serving(files={"/GeneRIF/generifs_basic.gz": release["/gene_summary.gz"]}) as server:
        result = download_release(tmp_path, DownloadConfig(mirror=server.url, files=("generifs_basic",)))
    assert result.files[0].url.endswith(f"{server.url.rstrip('/')}/GeneRIF/generifs_basic.gz")


def test_what_is_here_is_not_fetched_again_and_what_was_changed_is(mirror, config, tmp_path):
    download_release(tmp_path, config)
    n_requests = len(mirror.requests)
    again = download_release(tmp_path, config)
    assert (len(mirror.requests), [file.is_new for file in again.files]) == (n_requests, [False] * 3)
    (tmp_path / INFO[1:]).write_bytes(b"spoilt")
    repaired = download_release(tmp_path, config)
    assert [file.is_new for file in repaired.files] == [True, False, False]


def test_a_cut_connection_is_gone_on_with_where_it_broke(mirror, config, release, tmp_path, waits):
    mirror.faults[INFO] = [Fault(cut_after=500), Fault(cut_after=700)]
    download_release(tmp_path, config)
    assert [headers.get("Range") for headers in mirror.asked(INFO)] == [None, "bytes=500-", "bytes=1200-"]
    assert (tmp_path / INFO[1:]).read_bytes() == release[INFO]
    assert len(waits) == 2


def test_a_file_that_changed_on_the_server_is_begun_anew(mirror, config, release, tmp_path):
    mirror.faults[INFO] = [Fault(cut_after=500)] * 4
    with pytest.raises(NotAvailable, match="in 4 tries"):
        download_release(tmp_path, config)
    mirror.faults.clear()
    mirror.files[INFO] = gzip.compress(gzip.decompress(release[INFO]) + b"\n"[:0], mtime=7)
    mirror.etags[INFO] = '"another"'
    download_release(tmp_path, config)
    assert (tmp_path / INFO[1:]).read_bytes() == mirror.files[INFO]


def test_a_part_of_another_version_is_not_gone_on_with_even_where_if_range_is_ignored(
    mirror, config, release, tmp_path
):
    mirror.ignores_if_range = True
    mirror.faults[INFO] = [Fault(cut_after=500)] * 4
    with pytest.raises(NotAvailable):
        download_release(tmp_path, config)
    mirror.files[INFO] = gzip.compress(gzip.decompress(release[INFO]), compresslevel=1)
    mirror.etags[INFO] = '"another"'
    download_release(tmp_path, config)
    assert (tmp_path / INFO[1:]).read_bytes() == mirror.files[INFO]


def test_a_part_that_is_whole_already_only_gets_its_name(mirror, config, release, tmp_path):
    mirror.faults[INFO] = [Fault(cut_after=500)] * 4
    with pytest.raises(NotAvailable):
        download_release(tmp_path, config)
    (tmp_path / f"{INFO[1:]}.part").write_bytes(release[INFO])
    download_release(tmp_path, config)
    assert mirror.asked(INFO)[-1]["Range"] == f"bytes={len(release[INFO])}-"
    assert (tmp_path / INFO[1:]).read_bytes() == release[INFO]
    assert not list(tmp_path.glob("*.part*"))


def test_a_part_that_was_spoilt_on_this_machine_is_fetched_anew(mirror, config, release, tmp_path):
    mirror.faults[INFO] = [Fault(cut_after=500)] * 4
    with pytest.raises(NotAvailable):
        download_release(tmp_path, config)
    part = tmp_path / f"{INFO[1:]}.part"
    part.write_bytes(bytes(part.stat().st_size))
    download_release(tmp_path, config)
    assert (tmp_path / INFO[1:]).read_bytes() == release[INFO]


def test_a_full_disk_is_one_line_and_what_has_arrived_is_gone_on_with(mirror, config, release, tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; from genekb.core.errors import NotAvailable;"
        "from genekb.sources.ncbi_download import *; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));\n"
        "try: download_release(Path(sys.argv[1]), DownloadConfig(mirror=sys.argv[2]))\n"
        "except NotAvailable as error: print(error)"
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", code, str(tmp_path), mirror.url]
    out = subprocess.run(command, check=True, cwd=ROOT, env=environment, capture_output=True, text=True).stdout
    assert out.startswith(f"cannot write to {tmp_path}: File too large; free space")
    assert (tmp_path / f"{INFO[1:]}.part").read_bytes() == release[INFO][:1000]
    download_release(tmp_path, config)
    assert mirror.asked(INFO)[-1]["Range"] == "bytes=1000-"


def test_hgncs_set_is_downloaded_for_human_unless_a_mirror_would_have_to_hold_it(mirror):
    def wanted(taxon, **settings):
        return DownloadConfig(**settings).wanted_files([find_taxon(taxon)])

    assert wanted("human") == (*DEFAULT_FILES, "hgnc_complete_set")
    assert wanted("mouse") == wanted("human", mirror=mirror.url) == DEFAULT_FILES
    assert wanted("human", files=("gene_info",), more=("go",)) == ("gene_info", "gene2go", "go_basic")


def test_hgncs_set_comes_from_its_own_address_of_which_no_secret_is_written(mirror, release, tmp_path):
    mirror.files["/hgnc/set-7.txt.gz"] = release["/gene_summary.gz"]
    url = mirror.url.replace("//", "//user:secret@") + "hgnc/set-7.txt.gz?token=secret"
    config = DownloadConfig(mirror=mirror.url, files=("gene_summary", "hgnc_complete_set"), hgnc_url=url)
    result = download_release(tmp_path, config)
    assert [file.name for file in result.files] == ["gene_summary.gz", "hgnc_complete_set.txt.gz"]
    assert result.files[1].url == f"{mirror.url}hgnc/set-7.txt.gz"
    assert mirror.asked("/hgnc/set-7.txt.gz")[0]["Authorization"] == "Basic dXNlcjpzZWNyZXQ="
    assert "secret" not in (tmp_path / "download.json").read_text()


@pytest.mark.parametrize("url", ["", "mirror.example.org", "ftp://x/", "http://", "http://x:port/", "http://x/?a=b"])
def test_an_address_that_is_none_is_refused_before_anything_is_sent(url):
    with pytest.raises(ValueError, match="mirror must be an address"):
        DownloadConfig(mirror=url)


def test_checksums_are_asked_for_only_where_the_file_is(mirror, config, tmp_path):
    download_release(tmp_path, config)
    assert [path for path, _, _ in mirror.requests if path.startswith("/GENE_INFO")] == [NESTED]


def test_a_server_without_ranges_starts_over(mirror, config, release, tmp_path):
    mirror.ignores_range = True
    mirror.faults[INFO] = [Fault(cut_after=500)]
    download_release(tmp_path, config)
    assert (tmp_path / INFO[1:]).read_bytes() == release[INFO]


@pytest.mark.parametrize(("status", "headers"), [(429, {"Retry-After": "7"}), (500, {}), (503, {"Retry-After": "7"})])
def test_a_busy_server_is_asked_again_as_late_as_it_says(mirror, config, tmp_path, waits, status, headers):
    mirror.faults[INFO] = [Fault(status=status, headers=headers), Fault(status=status)]
    download_release(tmp_path, config)
    assert len(waits) == 2
    assert waits[0] >= (7 if headers else 1)


def test_a_server_may_name_the_time_at_which_to_ask_again(mirror, config, tmp_path, waits):
    mirror.faults[INFO] = [Fault(status=429, headers={"Retry-After": formatdate(time.time() + 100, usegmt=True)})]
    download_release(tmp_path, config)
    assert 90 < waits[0] <= 100


def test_a_server_that_asks_for_an_hour_is_not_waited_for(mirror, config, tmp_path, waits):
    mirror.faults[INFO] = [Fault(status=503, headers={"Retry-After": "3600"})]
    with pytest.raises(NotAvailable, match="asks to wait 3600 s"):
        download_release(tmp_path, config)
    assert waits == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "javascript:alert(1)", "http://[", INFO])
def test_a_redirect_that_no_try_can_follow_is_not_tried_again(mirror, config, tmp_path, waits, location):
    mirror.faults[INFO] = [Fault(status=302, headers={"Location": location})] * 99
    with pytest.raises(NotAvailable, match=r"127\.0\.0\.1:\d+ redirects (to something other|without end)"):
        download_release(tmp_path, config)
    assert waits == []


def test_a_server_that_drips_is_given_up_and_what_has_arrived_is_gone_on_with(
    mirror, config, release, tmp_path, monkeypatch
):
    monkeypatch.setattr("genekb.net.client.WINDOW_S", 0.3)
    mirror.pauses[INFO] = 0.02
    with pytest.raises(NotAvailable, match=r"1,000 a second are needed; what has arrived is kept"):
        download_release(tmp_path, config)
    mirror.pauses.clear()
    download_release(tmp_path, config)
    assert mirror.asked(INFO)[1]["Range"].startswith("bytes=")
    assert (tmp_path / INFO[1:]).read_bytes() == release[INFO]


def test_a_server_that_stays_busy_ends_in_one_line_with_the_other_way(mirror, config, tmp_path):
    mirror.faults[INFO] = [Fault(status=503)] * 99
    with pytest.raises(NotAvailable, match=r"status 503.*`genekb build` .`source`") as caught:
        download_release(tmp_path, config)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / INFO[1:]).exists()


def test_a_gzip_that_is_cut_off_on_the_server_never_gets_its_name(mirror, config, tmp_path, release):
    mirror.files[INFO] = release[INFO][:-40]
    with pytest.raises(SourceUnusable, match="is damaged on the server"):
        download_release(tmp_path, config)
    assert not list(tmp_path.glob("*gene_info*"))


def test_a_file_that_the_server_lacks_is_named(mirror, config, tmp_path):
    del mirror.files["/gene_summary.gz"]
    with pytest.raises(SourceUnusable, match=r"has no gene_summary.gz; is `mirror` right"):
        download_release(tmp_path, config)


def test_a_published_checksum_is_compared(mirror, config, tmp_path):
    mirror.files[f"{INFO}.md5"] = b"0" * 32 + b"  Homo_sapiens.gene_info.gz\n"
    with pytest.raises(SourceUnusable, match="MD5"):
        download_release(tmp_path, config)


def test_without_a_network_the_other_way_is_told_at_once_and_no_secret(config, tmp_path, waits):
    from dataclasses import replace

    offline = replace(config, mirror="http://user:secret@127.0.0.1:9/", retry=replace(config.retry, max_tries=2))
    with pytest.raises(NotAvailable, match=r"put Homo_sapiens\.gene_info\.gz, gene_summary\.gz") as caught:
        download_release(tmp_path, offline)
    assert "secret" not in str(caught.value)
    assert waits == []


def test_two_downloads_into_one_folder_are_kept_apart(config, tmp_path):
    import filelock

    with filelock.FileLock(tmp_path / ".download.lock"), pytest.raises(StoreBusy, match="another process downloads"):
        download_release(tmp_path, config)


def test_a_folder_that_cannot_be_written_is_one_line(config, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(NotAvailable, match="cannot write to"):
        download_release(tmp_path / "file", config)


@pytest.mark.slow
def test_a_killed_download_goes_on_where_it_was(mirror, release, tmp_path):
    gate = threading.Event()
    mirror.faults[INFO] = [Fault(cut_after=900, gate=gate)]
    code = (
        "import sys; from pathlib import Path; from genekb.sources.ncbi_download import *;"
        "download_release(Path(sys.argv[1]), DownloadConfig(mirror=sys.argv[2]),"
        "progress=lambda *step: print(*step, flush=True))"
    )
    command = [sys.executable, "-c", code, str(tmp_path), mirror.url]
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment) as process:
        assert process.stdout.readline().split()[1] == "900"
        process.send_signal(signal.SIGKILL)
    gate.set()
    assert not (tmp_path / INFO[1:]).exists()
    subprocess.run(command, check=True, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    assert mirror.asked(INFO)[-1]["Range"] == "bytes=900-"
    assert (tmp_path / INFO[1:]).read_bytes() == release[INFO]


def test_the_command_downloads_what_the_next_one_builds_from(mirror, tmp_path):
    args = ["download", tmp_path / "new", "--taxon", "human", "--mirror", mirror.url]
    content = call_json("genekb", *args)
    assert (content["release"], [file["is_new"] for file in content["files"]]) == ("2022-11-01", [True] * 3)
    assert call("genekb", *args)[1].count("here already") == 3
    built = call_json(
        "genekb", "build", "--source", tmp_path / "new", "--release", content["release"], "--model", "hash-256",
        "--home", tmp_path / "home",
    )  # fmt: skip
    assert built["store"] == "human@2022-11-01"


def test_a_wrong_address_is_wrong_usage(tmp_path):
    code, _, err = call("genekb", "download", tmp_path, "--mirror", "nowhere")
    assert (code, "Traceback" in err) == (2, False)


@pytest.mark.slow
def test_a_real_release_comes_over_whole(real_data, tmp_path):
    folder = real_data / "ncbi" / "2020-01"
    files = {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
    with serving(files=files, faults={INFO: [Fault(cut_after=1_000_000)]}) as server:
        config = DownloadConfig(mirror=server.url, taxa=("human", "mouse"), retry=RetryPolicy(sleep=lambda _: None))
        result = download_release(tmp_path, config)
    assert len(result.files) == 4
    ours, theirs = (read_ncbi_folder(where, taxa=["human", "mouse"]) for where in (tmp_path, folder))
    assert ours.genes.equals(theirs.genes)


def test_further_sources_are_downloaded_beside_ncbis_files(release, tmp_path):
    others = {
        "/uniprot_9606.tsv.gz": gzip.compress(b"Entry\tGeneID\tFunction [CC]\nP1\t1;\tFUNCTION: x.\n"),
        "/GENE-DESCRIPTION-TSV_HUMAN.tsv.gz": gzip.compress(b"HGNC:5\tA1BG\tx.\n"),
        "/gene2go.gz": release["/gene2go.gz"] if "/gene2go.gz" in release else gzip.compress(b"#tax_id\n"),
        "/go-basic.obo": b"[Term]\nid: GO:0000001\n",
        "/gene2pubmed.gz": gzip.compress(b"#tax_id\tGeneID\tPubMed_ID\n"),
    }
    with serving(files={**release, **others}) as server:
        made = call_json(
            "genekb", "download", tmp_path / "new", "--mirror", server.url, "--with", "uniprot,alliance,go,pubmed"
        )
        assert {f"/{file['name']}" for file in made["files"]} >= set(others)
        for name, content in others.items():
            assert (tmp_path / "new" / name[1:]).read_bytes() == content
        code, _, err = call("genekb", "download", tmp_path / "new", "--mirror", server.url, "--with", "kegg")
        assert (code, "'kegg' is not one of uniprot, string" in err) == (2, True)
        args = ["--taxon", "pig", "--file", "gene_summary", "--with", "alliance"]
        code, _, err = call("genekb", "download", tmp_path / "pig", "--mirror", server.url, *args)
        assert (code, "the Alliance has no descriptions of pig" in err) == (3, True)
