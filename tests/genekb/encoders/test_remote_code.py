"""Models that bring Python code: run only where the user says so, exactly the bytes that the recipe names."""

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

import numpy as np
import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import plan_update, update
from genekb.core.errors import EncoderFailed, NotAvailable, StoreCorrupt
from genekb.encoders import EncoderSpec, load_encoder, reopen_encoder
from genekb.share.pull import PullConfig, pull_store
from genekb.share.remotes import parse_address
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.store.verify import verify_store
from tests.support.in_process import call_here, call_json
from tests.support.loopback import QuietServer

TEXTS = ["insulin, a hormone of the cell", "cell."]
MAP = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
COMMIT = "c" * 40
CONFIGURATION = """
import pathlib
from transformers import PretrainedConfig
pathlib.Path({mark!r}).touch()
class OwnConfig(PretrainedConfig):
    model_type = "{kind}"
    def __init__(self, vocab_size=8, hidden_size=8, **others):
        self.vocab_size, self.hidden_size = vocab_size, hidden_size
        super().__init__(**others)
"""
MODEL = """
import pathlib
import torch
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput
from .configuration_own import OwnConfig
class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    def __init__(self, config):
        super().__init__(config)
        self.table = torch.nn.Embedding(config.vocab_size, config.hidden_size)
        self.register_buffer("slopes", torch.arange(1.0, config.hidden_size + 1), persistent=False)
        self.post_init()
    def forward(self, input_ids, attention_mask=None):
        hidden = self.table(input_ids) * self.slopes
        return {output}
"""
OUTPUT = "BaseModelOutput(last_hidden_state=hidden)"


@pytest.fixture
def mark(tmp_path):
    """A file that the model's code makes when it is run."""
    return tmp_path / "mark"


@pytest.fixture
def write_model(tiny_model, tmp_path, mark):
    """Write a model of a kind of its own, with its code."""

    def write(name="own", *, kind="tiny_own", output=OUTPUT, auto_map=MAP, code_in=None):
        import torch
        from safetensors.torch import save_file

        folder = tmp_path / name
        shutil.copytree(tiny_model, folder)
        n_words = json.loads((tiny_model / "config.json").read_text())["vocab_size"]
        table = torch.randn(n_words, 8, generator=torch.Generator().manual_seed(0))
        save_file({"table.weight": table}, folder / "model.safetensors", metadata={"format": "pt"})
        config = {"model_type": kind, "vocab_size": n_words, "hidden_size": 8, "num_attention_heads": 4}
        (folder / "config.json").write_text(json.dumps(config | {"auto_map": auto_map}))
        code = code_in or folder
        code.mkdir(parents=True, exist_ok=True)
        (code / "configuration_own.py").write_text(CONFIGURATION.format(mark=str(mark), kind=kind))
        (code / "modeling_own.py").write_text(MODEL.format(output=output))
        return folder

    return write


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty cache of the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def snapshot(cache, repository, commit=COMMIT):
    """Folder of a repository's main branch in a cache of the hub."""
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    return root / "snapshots" / commit


def digest_of_code(folder, prefix=""):
    """The digest, written down a second time: names and digests of all Python files."""
    names = sorted(path.name for path in folder.glob("*.py"))
    lines = [f"{prefix}{name}:{hashlib.sha256((folder / name).read_bytes()).hexdigest()}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def test_code_of_a_model_is_not_run_without_the_flag(write_model, mark):
    folder = write_model()
    with pytest.raises(
        EncoderFailed, match=rf"only with trust_remote_code=True.*; read the \.py files of {folder} first"
    ):
        load_encoder(str(folder))
    assert not mark.exists()


def test_code_of_a_model_is_run_with_the_flag_and_its_digest_is_in_the_recipe(write_model, mark):
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    folder = write_model()
    encoder = load_encoder(str(folder), trust_remote_code=True)
    assert mark.exists()
    assert encoder.spec.code_sha256 == digest_of_code(folder) == encoder.spec.to_dict()["code_sha256"]
    ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXTS[0]).ids
    right = load_file(folder / "model.safetensors")["table.weight"][ids].mean(axis=0) * np.arange(1, 9)
    np.testing.assert_allclose(encoder.encode(TEXTS).vectors[0], right / np.linalg.norm(right), atol=1e-6)


def test_a_model_that_transformers_knows_is_loaded_without_its_code(tiny_model, write_model, tmp_path, mark):
    folder = shutil.copytree(tiny_model, tmp_path / "known")
    for path in write_model().glob("*.py"):
        shutil.copy(path, folder)
    plain = load_encoder(str(folder)).spec
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": MAP}))
    trusted = load_encoder(str(folder), trust_remote_code=True).spec
    assert (trusted.code_sha256, trusted.weights_sha256) == ("", plain.weights_sha256)
    assert trusted == load_encoder(str(folder)).spec
    assert not mark.exists()


def test_a_known_kind_with_weights_of_another_shape_needs_its_code(write_model, mark):
    folder = write_model(kind="bert")
    with pytest.raises(EncoderFailed, match=r"lacks \d+ of its weights.*only with trust_remote_code=True"):
        load_encoder(str(folder))
    assert not mark.exists()
    assert load_encoder(str(folder), trust_remote_code=True).spec.code_sha256 == digest_of_code(folder)


def test_the_identity_of_a_recipe_without_code_is_what_it_was():
    fields = {
        "name": "b", "kind": "transformer", "model_id": "m", "revision": "r", "weights_sha256": "w",
        "tokenizer_sha256": "t", "pooling": "mean", "prompt": "p", "max_tokens": 8, "dim": 4,
    }  # fmt: skip
    spec = EncoderSpec(**fields)
    assert spec.encoder_id == "b-c98692ee741d"  # computed before recipes had the field
    assert "code_sha256" not in spec.to_dict()
    with_code = EncoderSpec(**fields, code_sha256="c")
    assert with_code.encoder_id != spec.encoder_id
    assert EncoderSpec.from_dict(with_code.to_dict()) == with_code


def test_an_encoder_is_opened_again_only_with_the_same_code(write_model, tmp_path, mark):
    folder = write_model()
    encoder = load_encoder(str(folder), trust_remote_code=True)
    mark.unlink()
    with pytest.raises(NotAvailable, match=rf"{encoder.spec.encoder_id} cannot be opened: .*trust_remote_code=True"):
        reopen_encoder(encoder.spec, tmp_path, hint=folder)
    with (folder / "modeling_own.py").open("a") as stream:
        stream.write("# one more line\n")
    with pytest.raises(StoreCorrupt, match="or Python code than own-"):
        reopen_encoder(encoder.spec, tmp_path, hint=folder, trust_remote_code=True)
    (folder / "modeling_own.py").write_text(MODEL.format(output=OUTPUT))
    again = reopen_encoder(encoder.spec, tmp_path, hint=folder, trust_remote_code=True)
    assert again.spec == encoder.spec
    assert again.encode(TEXTS).vectors.tobytes() == encoder.encode(TEXTS).vectors.tobytes()
    assert not mark.exists()  # the module of these bytes was imported before, and stands for them


def test_a_changed_file_is_never_taken_for_the_one_imported_before(write_model):
    folder = write_model()
    first = load_encoder(str(folder), trust_remote_code=True)
    changed = (folder / "modeling_own.py").read_text().replace("torch.arange(1.0,", "-torch.arange(1.0,")
    (folder / "modeling_own.py").write_text(changed)
    second = load_encoder(str(folder), trust_remote_code=True)
    assert first.spec.code_sha256 != second.spec.code_sha256
    np.testing.assert_allclose(first.encode(TEXTS).vectors, -second.encode(TEXTS).vectors, atol=1e-6)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("(hidden,)", "fails on a text: AttributeError: .*'last_hidden_state'.*tuple"),
        ("{'sentence_embedding': hidden}", "fails on a text: AttributeError: .*'last_hidden_state'.*dict"),
        ("BaseModelOutput(hidden.sum(1))", r"a last_hidden_state of shape .*\(text, token, dim\) is needed"),
    ],
)
def test_a_model_without_vectors_of_tokens_is_refused(write_model, output, message):
    with pytest.raises(EncoderFailed, match=message):
        load_encoder(str(write_model(output=output)), trust_remote_code=True)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("import torch\n", "import torch\nimport not_there\n", "loaded with its own code: ImportError: .*not_there"),
        ("class OwnModel", "class Other", "cannot be loaded with its own code: AttributeError: .*OwnModel"),
        ("def forward(self", "def forward(this self", "cannot be loaded with its own code: SyntaxError"),
        ("attention_mask=None", "", "own code of encoder 'own' fails on a text: TypeError"),
        ("self.post_init()", "raise KeyError('x')", "cannot be loaded with its own code: KeyError: 'x'"),
        ("self.post_init()", "self.more = torch.nn.Linear(8, 8); self.post_init()", "lacks 2 of its weights"),
    ],
)
def test_faults_of_a_models_code_are_told_in_one_line(write_model, old, new, message):
    folder = write_model()
    text = (folder / "modeling_own.py").read_text()
    (folder / "modeling_own.py").write_text(text.replace(old, new))
    with pytest.raises(EncoderFailed, match=message):
        load_encoder(str(folder), trust_remote_code=True)


def test_code_that_hides_which_weights_are_missing_is_refused(write_model):
    folder = write_model()
    with (folder / "modeling_own.py").open("a") as stream:
        stream.write("    @classmethod\n    def from_pretrained(cls, path, config, **others): return cls(config)\n")
    with pytest.raises(EncoderFailed, match="does not report which weights are missing"):
        load_encoder(str(folder), trust_remote_code=True)


@pytest.mark.parametrize("name", ["a.b.C", "C", "../up--a.C", "o/r--a", "o--a.C", "o/r/s--a.C", "a.C--", "/a.C"])
def test_a_class_outside_the_files_of_a_repository_is_refused(write_model, mark, name):
    folder = write_model(auto_map={"AutoModel": name})
    with pytest.raises(EncoderFailed, match="auto_map names"):
        load_encoder(str(folder), trust_remote_code=True)
    assert not mark.exists()


def test_a_tokenizer_of_the_models_own_is_run_with_its_code(write_model, tmp_path):
    folder, seen = write_model(), tmp_path / "tokenizer"
    (folder / "tokenization_own.py").write_text(
        f"import pathlib\npathlib.Path({str(seen)!r}).touch()\nfrom transformers import BertTokenizerFast as OwnWords\n"
    )
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "OwnWords", "auto_map": {"AutoTokenizer": [None, "tokenization_own.OwnWords"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(EncoderFailed, match="only with trust_remote_code=True"):
        load_encoder(str(folder))
    assert not seen.exists()
    encoder = load_encoder(str(folder), trust_remote_code=True)
    assert seen.exists()
    assert encoder.encode(TEXTS).n_tokens.tolist() == [9, 2]


def test_code_in_another_repository_is_hashed_and_run(write_model, hub_cache, tmp_path, mark):
    code = snapshot(hub_cache, "lab/code")
    folder = write_model(auto_map={part: f"lab/code--{name}" for part, name in MAP.items()}, code_in=code)
    with pytest.raises(EncoderFailed, match=rf"files of {folder} and of lab/code first"):
        load_encoder(str(folder))
    assert not mark.exists()
    encoder = load_encoder(str(folder), trust_remote_code=True)
    assert encoder.spec.code_sha256 == digest_of_code(code, prefix="lab/code--")
    (code / "modeling_own.py").write_text("raise SystemExit\n")
    with pytest.raises(StoreCorrupt, match="or Python code"):
        reopen_encoder(encoder.spec, tmp_path, hint=folder, trust_remote_code=True)
    (code / "modeling_own.py").unlink()
    with pytest.raises(NotAvailable, match=r"modeling_own\.py of lab/code, .* online=True .*take 'lab/code--' out"):
        reopen_encoder(encoder.spec, tmp_path, hint=folder, trust_remote_code=True)


@pytest.fixture
def hub(tmp_path, hub_cache, monkeypatch):
    """Paths that were asked of a server on loopback, which answers as the hub does, with folders OWNER/NAME."""
    from huggingface_hub import constants

    root, asked = tmp_path / "served", []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path = urlsplit(self.path).path
            asked.append(path)
            if path.startswith("/api/models/"):
                owner, name, kind = path.removeprefix("/api/models/").split("/")[:3]
                files = sorted((root / owner / name).iterdir())
                tree = [{"type": "file", "path": p.name, "size": p.stat().st_size, "oid": p.name} for p in files]
                about = {"id": f"{owner}/{name}", "sha": COMMIT, "siblings": [], "tags": [], "private": False}
                return self.answer(json.dumps(tree if kind == "tree" else about).encode(), "api")
            repository, _, file = path.partition(f"/resolve/{COMMIT}/")
            return self.answer((root / repository.strip("/") / file).read_bytes(), file)

        def answer(self, body, name):
            self.send_response(200)
            etag = hashlib.sha1(body).hexdigest()
            for key, value in {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - a name that the library calls

        def log_message(self, *_):
            """Say nothing."""

    server = QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_code_is_fetched_only_with_both_flags_and_found_again_offline(hub, write_model, tmp_path, mark):
    served = tmp_path / "served" / "lab"
    auto_map = {part: f"lab/code--{name}" for part, name in MAP.items()}
    write_model("served/lab/model", auto_map=auto_map, code_in=served / "code")
    (served / "model" / "README.md").write_text("not fetched")
    with pytest.raises(EncoderFailed, match="only with trust_remote_code=True"):
        load_encoder("lab/model", online=True)
    assert not any(path.endswith(".py") for path in hub)
    encoder = load_encoder("lab/model", online=True, trust_remote_code=True)
    assert encoder.spec.code_sha256 == digest_of_code(served / "code", prefix="lab/code--")
    assert encoder.spec.revision == COMMIT
    n_asked = len(hub)
    again = reopen_encoder(encoder.spec, tmp_path, trust_remote_code=True)
    assert again.spec == encoder.spec
    assert len(hub) == n_asked
    assert mark.exists()


@pytest.fixture
def built(write_model, ncbi_folder, tmp_path):
    """A store with an encoder of code, and the folder of that."""
    folder = write_model()
    config = BuildConfig(name="human", models=(str(folder), "hash-8"), trust_remote_code=True)
    return build(read_ncbi_folder(ncbi_folder, taxa=["human"]), config, home=tmp_path / "home"), folder


def test_a_store_is_pulled_verified_and_read_without_running_code(built, tmp_path, mark):
    mark.unlink()
    pulled = pull_store(parse_address(str(built[0].folder)), PullConfig(), home=tmp_path / "other")
    store = genekb.open("human", home=tmp_path / "other")
    assert store.vectors([915, 916]).has_vector.all()
    assert verify_store(pulled.path).faults == ()
    with pytest.raises(NotAvailable, match="is not where it was"):  # the note of where the model lies is not sent
        store.encoder()
    assert not mark.exists()


def test_an_update_runs_code_only_with_the_flag(built, old_ncbi_folder, tmp_path, mark):
    store = genekb.open(built[0].folder)
    old = read_ncbi_folder(old_ncbi_folder, taxa=["human"])
    plan = plan_update(store, old)
    assert max(plan.n_to_encode.values()) > 0
    with pytest.raises(NotAvailable, match="trust_remote_code=True"):
        update(store, old, plan, home=tmp_path / "home")
    plan = plan_update(store, old, config=BuildConfig(name="human", trust_remote_code=True))
    updated = update(store, old, plan, home=tmp_path / "home")
    assert list(updated.manifest.encoders) == list(built[0].manifest.encoders)
    right = store.encoder(trust_remote_code=True).encode(genekb.open(updated.folder).texts([915])).vectors
    np.testing.assert_allclose(genekb.open(updated.folder).vectors([915]).vectors, right, atol=1e-3)


@pytest.mark.slow
def test_workers_of_ray_run_the_same_code(write_model, ncbi_folder, tmp_path):
    arguments = ["build", "--source", ncbi_folder, "--model", write_model(), "--name", "human", "--trust-remote-code"]
    here = call_json("genekb", *arguments, "--home", tmp_path / "here")
    there = call_json("genekb", *arguments, "--home", tmp_path / "there", "--engine", "ray", "--workers", "1")
    assert there["digest"] == here["digest"]


def test_a_store_needs_the_flag_for_queries_alone(built, tmp_path, capsys, monkeypatch):
    made, folder = built
    recipe = next(iter(made.manifest.encoders.values()))["recipe"]
    store = genekb.open(made.folder)
    with pytest.raises(NotAvailable, match="trust_remote_code=True"):
        store.encoder()
    assert store.encoder(trust_remote_code=True).spec.code_sha256 == recipe["code_sha256"] == digest_of_code(folder)
    assert genekb.open(made.folder, trust_remote_code=True).search("T cell", limit=1)

    def run(*arguments):
        return call_here(["genekb", *arguments, "--home", tmp_path / "home"], capsys, monkeypatch)

    assert recipe["code_sha256"] in run("info", "human", "--card").out
    assert run("verify", "human").code == 0
    refused = run("search", "T cell", "--kb", "human", "--encoder", "own", "--mode", "semantic")
    assert (refused.code, refused.err.count("\n")) == (4, 1)
    assert "--trust-remote-code" in refused.err
    trusted = run("search", "T cell", "--kb", "human", "--encoder", "own", "--mode", "semantic", "--trust-remote-code")
    assert trusted.code == 0
