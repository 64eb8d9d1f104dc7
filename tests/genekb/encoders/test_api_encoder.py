"""Encoders behind an embeddings API, against a real server on the loopback that fails in the ways that vendors do."""

import base64
import hashlib
import json
import logging
import threading
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genekb.core.errors import EncoderFailed, NotAvailable, StoreCorrupt
from genekb.encoders.api import ApiConfig, cut_by_estimate, embed, estimate_price, load_api, pack
from genekb.encoders.kinds import ModelEntry
from genekb.net.retry import RetryPolicy

KEY = "sk-test-0123456789abcdef"
DIM = 6
TEXTS = ["insulin, a hormone", "a channel of nerve cells", "lysozyme cuts cell walls"]


def vector_of(text, *, dim=DIM, model="first"):
    """What the server answers: other texts, other models, other vectors, none of unit length."""
    seed = int.from_bytes(hashlib.sha256(f"{model}{text}".encode()).digest()[:8], "big")
    return np.random.default_rng(seed).normal(size=dim).astype(np.float32)


def unit(vectors):
    return np.stack(vectors) / np.linalg.norm(np.stack(vectors), axis=1, keepdims=True)


class Vendor:
    """State of the loopback server: faults to play before it answers, and every request that it saw."""

    def __init__(self):
        self.faults, self.requests, self.headers = [], [], []
        self.model, self.dim, self.edit, self.as_numbers = "first", DIM, lambda items: items, False

    def items(self, request):
        dim = request.get("dimensions", self.dim)
        vectors = [vector_of(text, dim=dim, model=self.model) for text in request["input"]]
        sent = [row.tolist() if self.as_numbers else base64.b64encode(row.tobytes()).decode() for row in vectors]
        return self.edit([{"index": number, "embedding": value} for number, value in enumerate(sent)])


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        vendor = self.server.vendor
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        vendor.requests.append(request)
        vendor.headers.append(dict(self.headers))
        fault = vendor.faults.pop(0) if vendor.faults else None
        if fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"data": [')
        elif fault:
            status, headers, body = fault
            self.answer(status, body(dict(self.headers)) if callable(body) else body, headers)
        else:
            self.answer(200, {"data": vendor.items(request)}, {})

    def answer(self, status, body, headers):
        content = (body if isinstance(body, str) else json.dumps(body)).encode()
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        """Say nothing."""


@pytest.fixture(scope="module")
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def new_vendor(server):
    """Start afresh: no faults, no requests seen; waits are noted and not waited for."""
    vendor = server.vendor = Vendor()
    vendor.url = f"http://127.0.0.1:{server.server_port}/v1"
    vendor.waits = []
    vendor.config = ApiConfig(base_url=vendor.url, retry=RetryPolicy(sleep=vendor.waits.append))
    return vendor


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def vendor(server):
    return new_vendor(server)


def load(vendor, *, name="vendor-model", dim=DIM, max_tokens=100, config=None, **options):
    model = ModelEntry(name=name, kind="api", model_id=name, dim=dim, max_tokens=max_tokens)
    encoder = load_api(model, config=config or vendor.config, **options)
    vendor.requests.clear()
    return encoder


@pytest.mark.parametrize("as_numbers", [False, True])
def test_vectors_are_those_of_the_endpoint_at_unit_length_and_in_order(vendor, as_numbers):
    vendor.as_numbers = as_numbers
    encoded = load(vendor).encode(TEXTS)
    np.testing.assert_allclose(encoded.vectors, unit([vector_of(text) for text in TEXTS]), atol=1e-6)
    assert encoded.n_tokens.tolist() == [6, 8, 8]
    assert encoded.n_tokens_cut.tolist() == [0, 0, 0]


def test_items_that_come_in_another_order_are_put_back_by_their_index(vendor):
    vendor.edit = lambda items: items[::-1]
    np.testing.assert_allclose(load(vendor).encode(TEXTS).vectors, unit([vector_of(t) for t in TEXTS]), atol=1e-6)


def test_the_recipe_names_model_host_and_dim_and_nothing_that_varies(vendor):
    spec = load(vendor).spec
    assert (spec.kind, spec.model_id, spec.pooling, spec.dim) == ("api", "vendor-model", "none", DIM)
    assert spec.revision == vendor.url.removeprefix("http://").removesuffix("/v1")
    smaller = replace(vendor.config, retry=RetryPolicy(max_tries=2, timeout_s=5))
    assert load(vendor, config=smaller).spec.encoder_id == spec.encoder_id


def test_dimensions_are_asked_for_only_where_a_model_allows_fewer(vendor):
    assert load(vendor, name="text-embedding-3-small", dim=4).encode(TEXTS).vectors.shape == (3, 4)
    assert vendor.requests[0]["dimensions"] == 4
    load(vendor, name="text-embedding-ada-002").encode(TEXTS)
    assert "dimensions" not in vendor.requests[0]


def test_the_length_of_vectors_is_taken_from_the_endpoint_where_none_is_known(vendor):
    vendor.dim = 9
    assert load(vendor, dim=0, max_tokens=0).spec.dim == 9


@given(lengths=st.lists(st.integers(1, 60), max_size=30), cap=st.integers(21, 60), n_texts=st.integers(1, 5))
def test_batches_hold_every_text_once_and_never_more_than_the_caps(lengths, cap, n_texts):
    texts = ["x" * length for length in lengths]
    batches = pack(texts, max_tokens=cap, max_texts=n_texts)
    assert [text for batch in batches for text in batch] == texts
    assert all(batches)
    sizes = [sum(-(-len(text) // 3) for text in batch) for batch in batches]
    assert max(map(len, batches), default=0) <= n_texts
    assert max(sizes, default=0) <= cap
    for batch, size, after in zip(batches, sizes, batches[1:], strict=False):  # a batch ends where a cap is reached
        assert len(batch) == n_texts or size + -(-len(after[0]) // 3) > cap


@pytest.mark.parametrize(("texts", "n_asked"), [(TEXTS * 700, [2048, 52]), (["x" * 250_000] * 5, [2, 2, 1])])
def test_requests_hold_every_text_once_and_never_more_than_the_protocol_allows(vendor, texts, n_asked):
    done = []
    vectors = embed(texts, model_id="vendor-model", dim=DIM, config=vendor.config, progress=done.append)
    np.testing.assert_allclose(vectors, [vector_of(text) for text in texts], atol=1e-6)
    assert done == n_asked == [len(request["input"]) for request in vendor.requests]


def test_a_long_text_is_cut_at_the_end_of_a_sentence_and_counted(vendor):
    kept = "Hormone of beta cells. Lowers blood glucose."
    encoded = load(vendor, max_tokens=20).encode([f"{kept} Binds its receptor on the liver."])
    assert vendor.requests[0]["input"] == [kept]
    assert (encoded.n_tokens[0], encoded.n_tokens_cut[0]) == (26, 11)


@given(text=st.text(min_size=1, max_size=80), limit=st.integers(1, 20))
def test_a_cut_text_stays_within_the_limit_by_the_same_estimate(text, limit):
    cut = cut_by_estimate(text, limit=limit)
    assert text.startswith(cut.text)
    assert cut.n_tokens == -(-len(text.encode()) // 3)
    one_character = len(cut.text) <= 1  # of more bytes than the limit: it stays whole
    assert -(-len(cut.text.encode()) // 3) <= limit or one_character


def test_a_text_that_no_request_can_hold_is_refused_before_anything_is_sent(vendor):
    encoder = load(vendor, max_tokens=0)
    with pytest.raises(EncoderFailed, match="text 1 has up to 200001 tokens, a request takes 200000; shorten it"):
        encoder.encode(["short", "x" * 600_001])
    assert vendor.requests == []


def test_a_busy_server_is_asked_again_after_the_time_that_it_names(vendor):
    encoder = load(vendor)
    vendor.faults = [(429, {"Retry-After": "7"}, {"error": {"message": "slow down"}})]
    np.testing.assert_allclose(encoder.encode(TEXTS).vectors, unit([vector_of(t) for t in TEXTS]), atol=1e-6)
    assert len(vendor.requests) == 2
    assert vendor.waits == [7.0]


def test_a_date_in_retry_after_is_waited_for(vendor):
    encoder = load(vendor)
    vendor.faults = [(503, {"Retry-After": formatdate(4_000_000_000, usegmt=True)}, "")]
    with pytest.raises(NotAvailable, match="asks to wait"):  # a date in 2096 is more than anyone waits
        encoder.encode(TEXTS)
    vendor.faults = [(503, {"Retry-After": formatdate(0, usegmt=True)}, "")]
    assert encoder.encode(TEXTS).vectors.shape == (3, DIM)


@pytest.mark.parametrize("fault", [(500, {}, "<html>"), (503, {}, {"error": "overloaded"}), (408, {}, ""), "cut"])
def test_passing_failures_are_mended_by_asking_again_with_growing_waits(vendor, fault):
    encoder = load(vendor)
    vendor.faults = [fault] * 3
    assert encoder.encode(TEXTS).vectors.shape == (3, DIM)
    assert len(vendor.requests) == 4
    assert all(wait >= low for wait, low in zip(vendor.waits, (1, 2, 4), strict=True))


def test_a_server_that_never_recovers_is_given_up_in_one_line(vendor):
    encoder = load(vendor, config=replace(vendor.config, retry=replace(vendor.config.retry, max_tries=3)))
    vendor.faults = [(502, {}, {"error": {"code": "bad_gateway", "message": "no\nupstream"}})] * 3
    with pytest.raises(
        NotAvailable, match=r"no vectors in 3 tries \(last: status 502, bad_gateway, no upstream\); try again"
    ):
        encoder.encode(TEXTS)
    assert len(vendor.requests) == 3


def test_nobody_listening_is_told_by_the_kind_of_failure(vendor):
    nowhere = replace(vendor.config, base_url="http://127.0.0.1:9/v1", retry=replace(vendor.config.retry, max_tries=2))
    with pytest.raises(NotAvailable, match=r"127.0.0.1:9 gave no vectors in 2 tries \(last: ConnectError\)"):
        load(vendor, config=nowhere)
    assert len(vendor.waits) == 1


def test_an_account_without_money_is_not_asked_again(vendor):
    encoder = load(vendor)
    vendor.faults = [(429, {}, {"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}})]
    with pytest.raises(NotAvailable, match=r"insufficient_quota.*billing"):
        encoder.encode(TEXTS)
    assert (len(vendor.requests), vendor.waits) == (1, [])


def echoed(headers):
    message = f"you sent {headers['Authorization']}, or {KEY[:14]}** \x1b[31m"
    return {"error": {"code": "bad_key", "message": message}}


@pytest.mark.parametrize(
    ("status", "error", "told"),
    [
        (401, NotAvailable, "status 401, bad_key.*check OPENAI_API_KEY"),
        (403, NotAvailable, "status 403, bad_key.*check OPENAI_API_KEY"),
        (404, NotAvailable, "'vendor-model': status 404.*OPENAI_BASE_URL"),
        (400, EncoderFailed, "refused 3 texts for 'vendor-model': status 400"),
        (302, NotAvailable, "status 302.*OPENAI_BASE_URL"),
    ],
)
def test_a_refusal_is_told_at_once_and_never_with_the_key(vendor, caplog, status, error, told):
    encoder = load(vendor)
    vendor.faults = [(status, {"Location": vendor.url}, echoed)]
    with caplog.at_level(logging.DEBUG), pytest.raises(error, match=told) as caught:
        encoder.encode(TEXTS)
    assert len(vendor.requests) == 1
    assert KEY in vendor.headers[-1]["Authorization"]
    shown = f"{caught.value}{caught.value!r}{encoder!r}{vendor.config!r}{vars(encoder)}{caplog.text}"
    assert not any(KEY[start : start + 8] in shown for start in range(3, len(KEY) - 7))
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def edited(change):
    def edit(items):
        change(items)
        return items

    return edit


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda items: items.pop(), "was asked for 3 vectors and gave 2 for 2 texts"),
        (lambda items: items[1].update(index=0), "was asked for 3 vectors and gave 3 for 2 texts"),
        (lambda items: items[1].update(index=7), "was asked for 3 vectors and gave 3 for 3 texts"),
        (lambda items: items[2].update(embedding=[1.0, 2.0]), "a vector of 2 dims, 6 are expected"),
        (lambda items: items[2].update(embedding=[1.0] * 5 + [float("nan")]), "gave text 2 a vector of length nan"),
        (lambda items: items[2].update(embedding=[1e300] * 6), "gave text 2 a vector of length inf"),
        (lambda items: items[0].update(embedding=[0.0] * 6), "gave text 0 a vector of length 0"),
        (lambda items: items[0].update(embedding="not base64"), "in another form than OpenAI's"),
        (lambda items: items[0].update(embedding=[[1.0] * 6]), "in another form than OpenAI's"),
        (lambda items: items[0].pop("index"), "in another form than OpenAI's"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_refused(vendor, change, told):
    encoder = load(vendor)
    vendor.edit = edited(change)
    with pytest.raises(EncoderFailed, match=told):
        encoder.encode(TEXTS)


@pytest.mark.parametrize("body", ["<html>a login page</html>", [1, 2], {"data": 3}, {"data": [None]}])
def test_a_page_in_place_of_vectors_is_refused(vendor, body):
    encoder = load(vendor)
    vendor.faults = [(200, {}, body)]
    with pytest.raises(EncoderFailed, match="in another form than OpenAI's"):
        encoder.encode(TEXTS)


@pytest.mark.parametrize(
    ("key", "told"), [(None, "set OPENAI_API_KEY"), (" \n", "set OPENAI_API_KEY"), ("a\nb", "set")]
)
def test_without_a_usable_key_nothing_is_sent(vendor, monkeypatch, key, told):
    encoder = load(vendor)
    monkeypatch.delenv("OPENAI_API_KEY")
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(NotAvailable, match=told):
        encoder.encode(TEXTS)
    assert vendor.requests == []


def test_an_encoder_is_opened_again_while_the_model_is_the_same_and_keeps_its_first_date(vendor, tmp_path):
    load(vendor).save(tmp_path / "first")
    probe = json.loads((tmp_path / "first/probe.json").read_text())
    probe["date"] = "2023-01-05"
    (tmp_path / "first/probe.json").write_text(json.dumps(probe))
    again = load(vendor, probe_folder=tmp_path / "first")
    again.save(tmp_path / "second")
    assert json.loads((tmp_path / "second/probe.json").read_text()) == probe
    assert len(probe["vectors"]) == 20
    assert (probe["model"], probe["host"]) == ("vendor-model", again.spec.revision)
    assert KEY not in (tmp_path / "second/probe.json").read_text()


def test_a_model_that_the_vendor_has_changed_is_not_used_with_old_vectors(vendor, tmp_path):
    load(vendor).save(tmp_path)
    vendor.model = "second"
    with pytest.raises(StoreCorrupt, match=r"has changed since \d{4}-.*lowest cosine -?0\.\d+, 0.999 is needed"):
        load(vendor, probe_folder=tmp_path)
    vendor.dim = 4
    with pytest.raises(StoreCorrupt, match=r"gives 4 dims, on .* it gave 6"):
        load(vendor, dim=0, probe_folder=tmp_path)


def test_one_probe_text_that_moved_is_enough(vendor, tmp_path):
    load(vendor).save(tmp_path)
    probe = json.loads((tmp_path / "probe.json").read_text())
    probe["vectors"][13] = (np.array(probe["vectors"][13]) + 0.05).tolist()
    (tmp_path / "probe.json").write_text(json.dumps(probe))
    with pytest.raises(StoreCorrupt, match="has changed since"):
        load(vendor, probe_folder=tmp_path)


@pytest.mark.parametrize(
    ("content", "error", "told"),
    [
        (None, NotAvailable, "probe.json is missing"),
        ("{", StoreCorrupt, "is damaged"),
        ('{"date": "d", "model": "vendor-model", "host": "h", "vectors": [[1.0]]}', StoreCorrupt, "20 vectors"),
        ({"host": "elsewhere:1"}, StoreCorrupt, "was made with 'vendor-model' at elsewhere:1"),
        ({"model": "other"}, StoreCorrupt, "was made with 'other'"),
    ],
)
def test_a_probe_that_is_not_that_of_the_encoder_stops_before_anything_is_sent(vendor, tmp_path, content, error, told):
    load(vendor).save(tmp_path)
    path = tmp_path / "probe.json"
    if content is None:
        path.unlink()
    else:
        changed = content if isinstance(content, str) else json.dumps(json.loads(path.read_text()) | content)
        path.write_text(changed)
    with pytest.raises(error, match=told):
        load(vendor, probe_folder=tmp_path)
    assert vendor.requests == []


def test_the_address_is_the_one_given_then_that_of_the_environment_then_the_public_one(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://box:8000/v1/")
    assert ApiConfig.from_environment(base_url="https://vendor.example/v1").host == "vendor.example"
    assert ApiConfig.from_environment().host == "box:8000"
    monkeypatch.delenv("OPENAI_BASE_URL")
    assert ApiConfig.from_environment().host == "api.openai.com"


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "host/v1", "https://user:secret@host/v1", "https://host/v1?key=secret", "https:///v1"]
)
def test_an_address_with_a_secret_or_without_a_host_is_refused_and_not_repeated(url):
    with pytest.raises(ValueError, match="base_url must be") as caught:
        ApiConfig(base_url=url)
    assert "secret" not in str(caught.value)


def test_the_price_is_an_upper_bound_by_the_list_and_unknown_for_other_models():
    estimate = estimate_price(["a" * 300] * 1000, model_id="text-embedding-3-large")
    assert (estimate.n_texts, estimate.n_tokens_at_most) == (1000, 100_000)
    assert estimate.dollars_at_most == pytest.approx(0.013)
    assert estimate_price(["a"], model_id="someone-elses").dollars_at_most is None


def test_a_build_that_goes_on_refuses_a_model_that_changed_in_between(vendor, tmp_path):
    load(vendor).save(tmp_path)
    first = (tmp_path / "probe.json").read_text()
    load(vendor).save(tmp_path)
    assert (tmp_path / "probe.json").read_text() == first
    vendor.model = "second"
    with pytest.raises(StoreCorrupt, match="has changed since"):
        load(vendor).save(tmp_path)
    assert (tmp_path / "probe.json").read_text() == first
