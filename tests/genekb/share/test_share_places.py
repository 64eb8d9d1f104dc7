"""Stores in an S3 bucket and on the Hub: real clients of both, real servers on loopback."""

import os

import pytest

import genekb
from genekb.core.errors import NotAvailable
from genekb.net.retry import RetryPolicy
from genekb.share.pull import PullConfig, pull_store
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from genekb.store.files import read_origin
from genekb.store.verify import verify_store
from tests.support.hub import serving_hub

QUICK = RetryPolicy(n_jobs=2, max_tries=2, timeout_s=5.0, sleep=lambda _: None)
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
HUB = "hf://datasets/lab/human"


@pytest.fixture(scope="module")
def built(human_store):
    return human_store("hash-64", "wcp-8")


@pytest.fixture(scope="module")
def smaller(human_store):
    """Another store of the same name."""
    return human_store("hash-16")


def pull(url, home, **settings):
    return pull_store(parse_address(url), PullConfig(retry=QUICK, **settings), home=home)


@pytest.fixture
def hub(monkeypatch):
    from huggingface_hub import constants

    with serving_hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", server.token)
        yield server


def test_a_store_goes_to_the_hub_in_one_commit_and_comes_back_whole(hub, built, tmp_path):
    pushed = push_store(built, parse_address(HUB))
    assert list(hub.commits) == [pushed.url.partition("@")[2]]
    assert set(hub.tree("main")) == {"manifest.json", *(file.path for file in built.manifest.files)}
    pulled = pull(HUB, tmp_path)
    assert verify_store(pulled.path).faults == ()
    assert pulled.digest == built.manifest.digest
    assert pulled.url == pushed.url
    assert read_origin(pulled.path).url == pushed.url


def test_the_hub_holds_one_store_a_commit_and_a_digest_is_a_tag_of_it(hub, built, smaller, tmp_path):
    push_store(built, parse_address(HUB))
    push_store(smaller, parse_address(HUB))
    assert not any("wcp-8" in path for path in hub.tree("main"))
    assert pull(HUB, tmp_path / "a").digest == smaller.manifest.digest
    assert pull(f"{HUB}@{built.manifest.digest}", tmp_path / "b").digest == built.manifest.digest
    with pytest.raises(NotAvailable, match="no such branch, tag or commit"):
        pull(f"{HUB}@v9", tmp_path / "c")


def test_a_push_repairs_a_repository_that_was_changed_at_the_same_size(hub, built, tmp_path):
    push_store(built, parse_address(HUB))
    whole = hub.tree("main")["texts.parquet"]
    hub.commit({"texts.parquet": bytes(len(whole))}, ())
    push_store(built, parse_address(HUB))
    assert hub.tree("main")["texts.parquet"] == whole
    assert verify_store(pull(HUB, tmp_path).path).faults == ()


def test_one_encoder_of_a_store_on_the_hub_is_opened_where_it_lies(hub, built, tmp_path):
    push_store(built, parse_address(HUB))
    hub.requests.clear()
    kb = genekb.open(HUB, home=tmp_path)
    assert (kb.vectors([916], encoder="wcp-8").vectors == built.vectors([916], encoder="wcp-8").vectors).all()
    assert not any("hash-64" in path for _, path, _ in hub.requests)


def test_a_wrong_token_is_refused_in_one_line_and_never_shown(hub, built, monkeypatch, tmp_path):
    push_store(built, parse_address(HUB))
    monkeypatch.setenv("HF_TOKEN", "hf_wrongsecret")
    with pytest.raises(NotAvailable, match="no such repository, or it is private; set HF_TOKEN") as error:
        pull(HUB, tmp_path)
    with pytest.raises(NotAvailable, match="set HF_TOKEN"):
        push_store(built, parse_address(HUB))
    assert "wrongsecret" not in str(error.value)


@pytest.fixture(scope="module")
def bucket():
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "verysecret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    import s3fs

    s3fs.S3FileSystem(skip_instance_cache=True).mkdir("genes")
    yield f"s3://genes/{os.getpid()}"
    server.stop()
    os.environ.clear()
    os.environ |= before


def test_a_store_goes_into_a_bucket_and_comes_back_whole(bucket, built, smaller, tmp_path):
    pushed = push_store(built, parse_address(f"{bucket}/human"), retry=QUICK)
    assert pushed.n_bytes_now > 0
    assert push_store(built, parse_address(f"{bucket}/human"), retry=QUICK).n_bytes_now < pushed.n_bytes_now / 10
    push_store(smaller, parse_address(f"{bucket}/human"), retry=QUICK)
    assert pull(f"{bucket}/human", tmp_path / "a").digest == smaller.manifest.digest
    old = pull(f"{bucket}/human@{built.manifest.digest}", tmp_path / "b", encoders=("wcp-8",))
    assert verify_store(old.path).faults == ()
    assert old.left == (built.encoder_id("hash-64"),)


@pytest.mark.slow
def test_a_push_repairs_a_bucket_that_was_changed_at_the_same_size(bucket, built, tmp_path):
    import s3fs

    pushed = push_store(built, parse_address(f"{bucket}/repaired"), retry=QUICK)
    path = f"{bucket}/repaired/{built.manifest.digest}/texts.parquet"
    filesystem = s3fs.S3FileSystem(skip_instance_cache=True)
    n_bytes = filesystem.info(path)["size"]
    filesystem.pipe_file(path, bytes(n_bytes))
    again = push_store(built, parse_address(f"{bucket}/repaired"), retry=QUICK)
    assert n_bytes < again.n_bytes_now < pushed.n_bytes_now / 2
    assert verify_store(pull(f"{bucket}/repaired", tmp_path).path).faults == ()


@pytest.mark.slow
def test_part_of_a_file_from_a_bucket_goes_on_where_it_ended(bucket, built, tmp_path):
    push_store(built, parse_address(f"{bucket}/cut"), retry=QUICK)
    staging = tmp_path / "stores" / "human@2022-11" / f".pulling-{built.manifest.digest[:16]}"
    staging.mkdir(parents=True)
    whole = (built.folder / "names.parquet").read_bytes()
    (staging / "names.parquet.part").write_bytes(whole[:500])
    pulled = pull(f"{bucket}/cut", tmp_path)
    assert pulled.n_bytes_now == sum(file.n_bytes for file in built.manifest.files) - 500
    assert verify_store(pulled.path).faults == ()


@pytest.mark.slow
def test_a_bucket_that_is_not_there_and_one_that_refuses(bucket, built, monkeypatch, tmp_path):
    with pytest.raises(NotAvailable, match="no such bucket"):
        push_store(built, parse_address("s3://elsewhere/human"), retry=QUICK)
    with pytest.raises(NotAvailable, match=r"holds neither current nor manifest\.json"):
        pull(f"{bucket}/nothing", tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(NotAvailable, match=r"s3://genes.* did not give current in 2 tries") as error:
        pull(f"{bucket}/human", tmp_path)
    assert "verysecret" not in str(error.value)
