"""Stores that travel: folder to folder, over a web server that fails, into a bucket; and what must never arrive."""

import re
import shutil
import threading
from dataclasses import replace

import pytest

import genekb
from genekb.builder.diff import trace_lineage
from genekb.builder.plan import BuildConfig, build
from genekb.core.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.net.retry import RetryPolicy
from genekb.share.pull import PullConfig, pull_store
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.store.files import PULLED
from genekb.store.home import list_store_folders
from genekb.store.verify import verify_store
from tests.support.loopback import Fault, serving

QUICK = RetryPolicy(n_jobs=2, max_tries=3, timeout_s=1.0, sleep=lambda _: None)


@pytest.fixture(scope="module")
def built(human_store):
    return human_store("hash-256", "wcp-8")


@pytest.fixture
def shared(built, tmp_path):
    """The store, pushed to a folder."""
    push_store(built, parse_address(str(tmp_path / "shared")))
    return tmp_path / "shared"


@pytest.fixture(scope="module")
def large(built):
    """Path on a server of the largest file."""
    return f"/kb/{built.manifest.digest}/embeddings/{built.encoder_id('hash-256')}/part-00000.parquet"


def pull(url, home, **settings):
    return pull_store(parse_address(str(url)), PullConfig(retry=QUICK, **settings), home=home)


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def served(folder):
    return {f"/kb/{name}": body for name, body in content(folder).items()}


def test_a_pulled_store_has_the_bytes_of_the_pushed_one_and_nothing_is_sent_twice(built, shared, tmp_path):
    pulled = pull(shared, tmp_path / "home")
    assert content(pulled.path) == content(built.folder)
    assert verify_store(pulled.path).faults == ()
    assert genekb.open("human", home=tmp_path / "home").store_id == built.store_id
    assert pull(shared, tmp_path / "home").n_bytes_now == 0
    again = push_store(built, parse_address(str(shared)))
    assert again.n_bytes_now == (built.folder / "manifest.json").stat().st_size


def test_a_push_repairs_a_copy_that_was_changed_at_the_same_size(built, shared, tmp_path):
    damaged = shared / built.manifest.digest / "texts.parquet"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    again = push_store(built, parse_address(str(shared)))
    assert again.n_bytes_now == len(whole) + (built.folder / "manifest.json").stat().st_size
    assert content(pull(shared, tmp_path / "home").path) == content(built.folder)


def test_the_folder_of_a_name_and_a_copied_store_can_be_pulled_from(built, tmp_path):
    shutil.copytree(built.folder, tmp_path / "copy")
    for home, place in (("a", built.folder.parent), ("b", tmp_path / "copy")):
        assert pull(place, tmp_path / home).digest == built.manifest.digest


def test_connections_that_are_cut_go_on_where_they_ended(shared, large, tmp_path):
    with serving(files=served(shared)) as server:
        server.faults = {large: [Fault(cut_after=1000), Fault(cut_after=500)]}
        pulled = pull(server.url + "kb", tmp_path)
        assert [headers.get("Range") for headers in server.asked(large)] == [None, "bytes=1000-", "bytes=1500-"]
    assert verify_store(pulled.path).faults == ()


def test_what_has_arrived_is_kept_for_the_next_command(built, shared, large, tmp_path):
    with serving(files=served(shared), faults={large: [Fault(cut_after=100)] * 3}) as server:
        with pytest.raises(NotAvailable, match=r"did not give .*part-00000.parquet in 3 tries .*run the same command"):
            pull(server.url + "kb", tmp_path)
        assert list_store_folders(tmp_path) == []
        n_asked = len(server.requests)
        pulled = pull(server.url + "kb", tmp_path)
        again = [path for path, _, _ in server.requests[n_asked:]]
        assert server.asked(large)[-1]["Range"] == "bytes=300-"
    assert not any(path.endswith("genes.parquet") for path in again)
    assert content(pulled.path) == content(built.folder)


def test_a_server_without_ranges_sends_all_again(built, shared, large, tmp_path):
    with serving(files=served(shared), faults={large: [Fault(cut_after=1000)]}, ignores_range=True) as server:
        pulled = pull(server.url + "kb", tmp_path)
    assert content(pulled.path) == content(built.folder)


def test_a_silent_server_is_left_after_the_timeout_and_asked_again(built, shared, tmp_path):
    gate = threading.Event()
    large = f"/kb/{built.manifest.digest}/texts.parquet"
    with serving(files=served(shared), faults={large: [Fault(cut_after=200, gate=gate)]}) as server:
        pulled = pull(server.url + "kb", tmp_path)
        gate.set()
        assert server.asked(large)[1]["Range"] == "bytes=200-"
    assert verify_store(pulled.path).faults == ()


def test_a_server_that_drips_is_given_up_and_what_has_arrived_is_gone_on_with(built, shared, tmp_path, monkeypatch):
    monkeypatch.setattr("genekb.net.client.WINDOW_S", 0.3)
    large = f"/kb/{built.manifest.digest}/texts.parquet"
    files = served(shared)
    with serving(files=files) as server:
        server.pauses[large] = 0.02
        with pytest.raises(NotAvailable, match=r"sent \d+ bytes in 0 s, 1,000 a second are needed; .* is kept: run"):
            pull(server.url + "kb", tmp_path)
        assert len(server.asked(large)) == 1
        server.pauses.clear()
        pulled = pull(server.url + "kb", tmp_path)
        assert int(server.asked(large)[1]["Range"].removeprefix("bytes=").rstrip("-")) > 0
    assert content(pulled.path) == content(built.folder)


@pytest.mark.slow
def test_a_slow_line_is_waited_for(built, shared, tmp_path, monkeypatch):
    monkeypatch.setattr("genekb.net.client.WINDOW_S", 0.05)
    with serving(files=served(shared), pause_s=0.01, piece=2_000) as server:  # slower than one window
        pulled = pull(server.url + "kb", tmp_path, encoders=("wcp-8",))
    assert verify_store(pulled.path).faults == ()


BAD_LOCATIONS = [
    "file:///etc/passwd",
    "javascript:alert(1)",
    "http://[",
    "ftp://host/x",
    "http://xn--/x",
    "http://a..b/",
    "/kb/current",
]


@pytest.mark.parametrize("location", BAD_LOCATIONS)
def test_a_redirect_that_no_try_can_follow_is_not_tried_again(tmp_path, location):
    waits = []
    retry = replace(QUICK, sleep=waits.append)
    with serving(faults={"/kb/current": [Fault(status=302, headers={"Location": location})] * 99}) as server:
        with pytest.raises(NotAvailable, match=r"127\.0\.0\.1:\d+ redirects (to something other|without end)"):
            pull_store(parse_address(server.url + "kb"), PullConfig(retry=retry), home=tmp_path)
        assert {path for path, _, _ in server.requests} == {"/kb/current"}
        assert len(server.requests) in {1, 21}  # an endless one is followed as far as httpx goes
    assert waits == []


@pytest.mark.parametrize("name", ["genes.parquet", "texts.parquet", "README.md"])
def test_bytes_that_were_changed_on_the_way_never_become_a_store(built, shared, tmp_path, name):
    files = served(shared)
    path = f"/kb/{built.manifest.digest}/{name}"
    whole = files[path]
    with serving(files=files) as server:
        files[path] = bytes([whole[0] ^ 1]) + whole[1:]
        with pytest.raises(StoreCorrupt, match=rf"other bytes of {name} than its manifest promises"):
            pull(server.url + "kb", tmp_path)
        assert list_store_folders(tmp_path) == []
        files[path] = whole
        assert verify_store(pull(server.url + "kb", tmp_path).path).faults == ()


@pytest.mark.parametrize("head", [b"{", b"[]", b'{"schema_version": 2, "digest": "x"}'])
def test_a_damaged_manifest_is_named_by_its_address(built, shared, tmp_path, head):
    files = served(shared)
    files[f"/kb/{built.manifest.digest}/manifest.json"] = head
    with serving(files=files) as server:
        url = server.url + "kb"
        named = rf"^{re.escape(url)}/{built.manifest.digest}/manifest\.json is damaged .*ask its owner to push"
        with pytest.raises(StoreCorrupt, match=named):
            pull(url, tmp_path)
        with pytest.raises(StoreCorrupt, match=named):
            genekb.open(url, home=tmp_path)


def test_a_manifest_that_was_changed_is_refused(built, shared, tmp_path):
    files = served(shared)
    path = f"/kb/{built.manifest.digest}/manifest.json"
    files[path] = files[path].replace(b'"n_genes": ', b'"n_genes": 1')
    with serving(files=files) as server, pytest.raises(StoreCorrupt, match="its content has digest"):
        pull(server.url + "kb", tmp_path)


def test_a_file_longer_than_promised_is_refused_before_it_fills_the_disk(built, shared, tmp_path):
    files = served(shared)
    path = f"/kb/{built.manifest.digest}/genes.parquet"
    n_bytes = len(files[path])
    files[path] += bytes(50_000_000)
    with serving(files=files) as server, pytest.raises(StoreCorrupt, match=f"more than {n_bytes:,} bytes"):
        pull(server.url + "kb", tmp_path)
    assert sum(len(body) for body in content(tmp_path).values()) < 2_000_000


def test_an_old_beginning_of_another_file_is_thrown_away(built, shared, tmp_path):
    staging = tmp_path / "home" / "stores" / "human@2022-11" / f".pulling-{built.manifest.digest[:16]}"
    staging.mkdir(parents=True)
    (staging / "genes.parquet.part").write_bytes(b"not the beginning of it")
    assert verify_store(pull(shared, tmp_path / "home").path).faults == ()


def test_one_encoder_alone_and_the_others_later(built, shared, tmp_path):
    first = pull(shared, tmp_path / "home", encoders=("wcp-8",))
    assert first.left == (built.encoder_id("hash-256"),)
    kb = genekb.open("human", home=tmp_path / "home")
    assert kb.encoder_id() == built.encoder_id("wcp-8")
    assert kb.store_id == built.store_id
    with pytest.raises(NotAvailable, match=r"was not pulled; `genekb pull .*` with encoder=\"hash-256\""):
        kb.vector_table("hash-256")
    assert verify_store(first.path).not_pulled == first.left
    with pytest.raises(NotAvailable, match=r"lacks hash-256"):
        kb.check_whole()
    second = pull(shared, tmp_path / "home")
    assert second.left == ()
    assert content(second.path) == content(built.folder)
    assert (genekb.open("human", home=tmp_path / "home").vector_table("hash-256").vectors.shape[1]) == 256


def test_an_encoder_that_is_lost_is_damage_and_not_taken_for_one_left_behind(shared, tmp_path):
    pulled = pull(shared, tmp_path / "home")
    shutil.rmtree(next((pulled.path / "embeddings").glob("wcp-8-*")))
    assert verify_store(pulled.path).faults
    with pytest.raises(StoreCorrupt, match="missing"):
        genekb.open("human", home=tmp_path / "home")


def test_a_pull_mends_what_was_damaged_or_lost(built, shared, tmp_path):
    pulled = pull(shared, tmp_path / "home")
    shutil.rmtree(next((pulled.path / "embeddings").glob("wcp-8-*")))
    with (pulled.path / "genes.parquet").open("r+b") as stream:
        stream.write(b"X")
    assert len(verify_store(pulled.path).faults) > 1
    pull(shared, tmp_path / "home", encoders=("hash-256",))
    assert content(pulled.path) == content(built.folder)


def test_a_pulled_store_tells_where_it_came_from(shared, tmp_path):
    pulled = pull(shared, tmp_path / "home")
    assert trace_lineage(pulled.path)[0].to_dict()["pulled_from"] == shared.as_uri()


def test_what_cannot_fit_on_the_disk_is_refused_before_it_comes(built, shared, tmp_path, monkeypatch):
    monkeypatch.setattr("genekb.share.pull.disk_usage", lambda _: shutil.disk_usage("/")._replace(free=1000))
    with pytest.raises(NotAvailable, match=r"has 1,000 bytes free, [\d,]+ are to come; free space"):
        pull(shared, tmp_path / "home")


def test_a_place_may_hold_some_encoders_alone(built, tmp_path):
    push_store(built, parse_address(str(tmp_path / "some")), encoders=["wcp-8"])
    pulled = pull(tmp_path / "some", tmp_path / "home")
    assert pulled.left == (built.encoder_id("hash-256"),)
    with pytest.raises(NotAvailable, match="does not share the encoder hash-256"):
        pull(tmp_path / "some", tmp_path / "home", encoders=("hash-256",))
    with pytest.raises(NotAvailable, match=r"no encoder 'bert' \(it has: hash-256"):
        pull(tmp_path / "some", tmp_path / "home", encoders=("bert",))


@pytest.fixture(scope="module")
def newer(built, old_ncbi_folder, tmp_path_factory):
    """Another store of the same name."""
    tables = read_ncbi_folder(old_ncbi_folder, taxa=["human"], release="2022-11")
    config = BuildConfig(name="human", models=("hash-16",))
    return genekb.open(build(tables, config, home=tmp_path_factory.mktemp("newer")).folder)


def test_versions_lie_side_by_side_and_a_digest_pins_one(built, newer, shared, tmp_path):
    push_store(newer, parse_address(str(shared)))
    assert pull(shared, tmp_path / "a").digest == newer.manifest.digest
    old = built.manifest.digest
    assert pull(f"{shared}@{old}", tmp_path / "b").digest == old
    with pytest.raises(NotAvailable, match=r"has no version .* give all 64 digits"):
        pull(f"{shared}@{old[:12]}", tmp_path / "c")
    with pytest.raises(StoreCorrupt, match=f"with digest {newer.manifest.digest}, {old} was asked for"):
        pull(shared, tmp_path / "c", digest=old)
    assert list_store_folders(tmp_path / "c") == []


def test_a_pull_tells_what_the_name_stood_for_before_and_keeps_it(built, newer, shared, tmp_path):
    pull(shared, tmp_path / "home")
    push_store(newer, parse_address(str(shared)))
    second = pull(shared, tmp_path / "home")
    assert second.replaced == built.manifest.digest
    assert genekb.open(built.manifest.digest, home=tmp_path / "home").manifest.digest == built.manifest.digest


def test_damage_is_not_shared(built, tmp_path):
    shutil.copytree(built.folder, tmp_path / "copy")
    with (tmp_path / "copy" / "genes.parquet").open("r+b") as stream:
        stream.write(b"X")
    with pytest.raises(StoreCorrupt, match="other bytes"):
        push_store(genekb.open(tmp_path / "copy"), parse_address(str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "the address is empty"),
        ("ftp://host/x", r"ftp://... is no address that can be used"),
        ("http:///x", "no address"),
        ("https://host/x?X-Amz-Signature=secret", r"^https://\.\.\. is no address .*without a query"),
        ("s3://B/x", "no address"),
        ("hf://onlyname", r"is not hf://datasets/owner/name"),
        ("hf://datasets/a/b/c/d", "is not hf://"),
        ("hf://datasets/../x", "is not hf://"),
        ("file://elsewhere/x", "three slashes"),
    ],
)
def test_what_is_no_address_is_said_to_be_none(url, message):
    with pytest.raises(SourceUnusable, match=message):
        parse_address(url)


def test_an_at_sign_of_a_path_is_not_a_revision():
    assert parse_address("/data/human@2022-11").url == "/data/human@2022-11"
    assert parse_address("s3://bucket/human@2022-11@0123abcd").revision == "0123abcd"
    assert parse_address("hf://datasets/lab/human@v1").revision == "v1"


def test_nothing_is_pushed_to_a_web_server(built):
    with pytest.raises(SourceUnusable, match="read only; push to a folder"):
        push_store(built, parse_address("http://127.0.0.1:9/x"))


def test_a_place_that_is_not_there_and_one_that_holds_nothing(tmp_path):
    with pytest.raises(NotAvailable, match=r"127\.0\.0\.1:9 cannot be reached"):
        pull("http://127.0.0.1:9/x", tmp_path)
    with pytest.raises(NotAvailable, match=r"holds neither current nor manifest\.json"):
        pull(tmp_path / "nothing", tmp_path)
    with serving(files={"/kb/current": b"../../etc"}) as server, pytest.raises(StoreCorrupt, match="holds no digest"):
        pull(server.url + "kb", tmp_path)


def test_user_and_password_of_an_address_are_used_and_never_kept(shared, tmp_path):
    with serving(files=served(shared)) as server:
        address = server.url.replace("http://", "http://someone:verysecret@") + "kb"
        pulled = pull(address, tmp_path)
        assert "Basic" in server.requests[0][1]["Authorization"]
        with pytest.raises(NotAvailable) as error:
            pull(address + "/elsewhere", tmp_path)
    assert "verysecret" not in pulled.url + str(error.value)
    assert b"verysecret" not in b"".join(content(tmp_path).values())
    assert (pulled.path.parent / PULLED).is_file()


def test_a_store_is_opened_where_it_lies_and_each_file_comes_when_it_is_used(built, shared, tmp_path):
    with serving(files=served(shared)) as server:
        kb = genekb.open(server.url + "kb", home=tmp_path)
        assert kb.store_id == built.store_id
        asked = {path.rpartition("/")[2] for path, _, _ in server.requests}
        assert asked == {"current", "manifest.json"}
        assert kb.resolve(["CD3E"]).gene_ids.tolist() == built.resolve(["CD3E"]).gene_ids.tolist()
        assert not any("embeddings" in path for path, _, _ in server.requests)
        found = kb.vectors([916], encoder="wcp-8").vectors
        assert (found == built.vectors([916], encoder="wcp-8").vectors).all()
        assert not any("hash-256" in path for path, _, _ in server.requests)
        n_asked = len(server.requests)
        kb.vectors([915], encoder="wcp-8")
        assert len(server.requests) == n_asked
        assert kb.search("T cell receptor", encoder="wcp-8")[0].symbol in {"CD3E", "CD3D"}
    assert list_store_folders(tmp_path) == []


def test_a_file_of_a_store_elsewhere_that_differs_is_never_used(built, shared, tmp_path):
    files = served(shared)
    path = f"/kb/{built.manifest.digest}/names.parquet"
    files[path] = files[path][:-1] + b"!"
    with serving(files=files) as server:
        kb = genekb.open(server.url + "kb", home=tmp_path)
        with pytest.raises(StoreCorrupt, match=r"other bytes of names\.parquet"):
            kb.resolve(["CD3E"])
