"""Fitted models that travel, by an address or a lock file: the same predictions elsewhere, or a clear refusal."""

import json
import re
import shutil
import tomllib

import pytest

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.io.cells import cells_from_anndata
from cellmodel.tl._run.pipeline import run
from cellmodel.tl.model.fitted import fit_model, load_model, save_model
from cellmodel.tl.model.share import check_model, pull_model, push_model, sync_models
from cellmodel.tl.model.share import lock as lock_models
from genekb.core.errors import NotAvailable, SourceUnusable, StoreCorrupt
from genekb.share.lock import pin_store, write_pins
from genekb.share.pull import PullConfig, pull_store
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from genekb.store.lockfile import read_pins
from tests.genekb.share.test_share import QUICK, content, served
from tests.support.demo import demo_cells
from tests.support.hub import serving_hub
from tests.support.in_process import call, call_here, call_json
from tests.support.loopback import Fault, serving


@pytest.fixture(scope="module")
def kb(demo_store):
    return demo_store("hash-16")


@pytest.fixture(scope="module")
def fitted(kb, tmp_path_factory):
    """Two models of the same cells, with and without knowledge."""
    folder = tmp_path_factory.mktemp("fitted")
    cells = cells_from_anndata(demo_cells()[:200].copy())
    for name, knowledge in (("first", "real"), ("second", "none")):
        config = RunConfig(recipe="pca-kmeans", n_words=0, n_clusters=3, knowledge=knowledge)
        save_model(fit_model(cells, run(cells, kb, config)), folder / name)
    return folder


@pytest.fixture(scope="module")
def model(fitted):
    return fitted / "first"


@pytest.fixture
def project(fitted, tmp_path):
    """A project with a model, which is shared as well."""
    shutil.copytree(fitted / "first", tmp_path / "project" / "models" / "blood")
    push_model(fitted / "first", parse_address(str(tmp_path / "shared")), retry=QUICK)
    return tmp_path / "project"


@pytest.fixture
def elsewhere(project, tmp_path):
    """Lock file of the project on another machine, which has the file alone; the address is put in later."""

    def clone(url):
        lock_models([project / "models" / "blood"], file=project / "genekb.lock", url=url)
        (tmp_path / "elsewhere").mkdir()
        return shutil.copy(project / "genekb.lock", tmp_path / "elsewhere" / "genekb.lock")

    return clone


def test_a_pulled_model_has_the_bytes_of_the_pushed_one(model, tmp_path):
    pushed = push_model(model, parse_address(str(tmp_path / "shared")), retry=QUICK)
    pulled = pull_model(parse_address(str(tmp_path / "shared")), tmp_path / "here", retry=QUICK)
    assert content(tmp_path / "here") == content(model)
    assert (pulled.digest, pulled.store_id) == (pushed.digest, load_model(model).lineage.store_id)
    with pytest.raises(InputUnusable, match="exists"):
        pull_model(parse_address(str(tmp_path / "shared")), tmp_path / "here", retry=QUICK)
    pull_model(parse_address(pushed.url), tmp_path / "here", overwrite=True, retry=QUICK)
    with pytest.raises(LineageMismatch, match=f"gives model {pushed.digest}, {'0' * 64} was asked for"):
        pull_model(parse_address(pushed.url), tmp_path / "other", digest="0" * 64, retry=QUICK)


def test_a_model_over_a_connection_that_breaks_and_one_that_lies(model, tmp_path):
    pushed = push_model(model, parse_address(str(tmp_path / "shared")), retry=QUICK)
    files = served(tmp_path / "shared")
    arrays = f"/kb/{pushed.digest}/arrays.safetensors"
    with serving(files=files, faults={arrays: [Fault(cut_after=70_000), Fault(cut_after=10)]}) as server:
        pull_model(parse_address(server.url + "kb"), tmp_path / "a", retry=QUICK)
        assert content(tmp_path / "a") == content(model)
        files[arrays] = bytes(len(files[arrays]))
        with pytest.raises(StoreCorrupt, match=r"other bytes of arrays\.safetensors"):
            pull_model(parse_address(server.url + "kb"), tmp_path / "b", retry=QUICK)
        description = f"/kb/{pushed.digest}/model.json"
        files[description] = files[description].replace(b'"version"', b'"Version"')
        with pytest.raises(LineageMismatch, match="was asked for; do not use it"):
            pull_model(parse_address(server.url + "kb"), tmp_path / "b", retry=QUICK)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("n_bytes", [-1, "many", 1 << 60])
def test_a_model_that_promises_nonsense_is_refused(model, tmp_path, n_bytes):
    told = json.loads((model / "model.json").read_text()) | {"n_bytes": n_bytes}
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "model.json").write_text(json.dumps(told))
    with pytest.raises(LineageMismatch, match="is absent, or too large"):
        pull_model(parse_address(str(tmp_path / "shared")), tmp_path / "here", retry=QUICK)
    with pytest.raises(NotAvailable, match=r"neither current nor model.json"):
        pull_model(parse_address(str(tmp_path / "nothing")), tmp_path / "here", retry=QUICK)


def test_a_damaged_model_is_named_by_its_address(model, tmp_path):
    push_model(model, parse_address(str(tmp_path / "shared")), retry=QUICK)
    (folder,) = (path for path in (tmp_path / "shared").iterdir() if path.is_dir())
    told = json.loads((folder / "model.json").read_text()) | {"names": 3}
    (folder / "model.json").write_text(json.dumps(told))
    files = {f"/{path.name}": path.read_bytes() for path in folder.iterdir()}
    with serving(files=files) as server, pytest.raises(LineageMismatch) as error:
        pull_model(parse_address(server.url), tmp_path / "here", retry=QUICK)
    assert re.fullmatch(rf"{server.url}model\.json is damaged .*; ask its owner to push it again", str(error.value))
    assert not (tmp_path / "here").exists()


def test_the_encoder_that_a_store_chooses_is_one_that_was_pulled(tmp_path):
    config = genekb.BuildConfig(name="demo", models=("hash-16", "hash-32"))
    built = genekb.open(genekb.build(genekb.read_demo_table(), config, home=tmp_path / "home").folder)
    push_store(built, parse_address(str(tmp_path / "shared")))
    pull_store(parse_address(str(tmp_path / "shared")), PullConfig(encoders=("hash-32",)), home=tmp_path / "other")
    part = genekb.open("demo", home=tmp_path / "other")
    assert part.encoder_id() == built.encoder_id("hash-32")
    assert built.encoder_id() == built.encoder_id("hash-16")


def test_a_lock_file_gives_another_machine_the_same_model_in_the_same_folder(fitted, project, elsewhere, tmp_path):
    shared = served(tmp_path / "shared")
    arrays = next(path for path in shared if path.endswith("arrays.safetensors"))
    with serving(files=shared, faults={arrays: [Fault(cut_after=10_000)]}) as server:
        lock = elsewhere(server.url + "kb")
        ((pin, pulled),) = sync_models(lock, retry=QUICK)
        n_asked = len(server.requests)
        assert sync_models(lock, retry=QUICK) == [(pin, None)]
        assert len(server.requests) == n_asked
    assert (pin.name, pin.store_id) == ("models/blood", load_model(fitted / "first").lineage.store_id)
    assert content(lock.parent / "models" / "blood") == content(project / "models" / "blood")
    assert pulled.n_bytes_now + (fitted / "first" / "model.json").stat().st_size == pin.n_bytes


def test_a_newer_model_at_the_address_does_not_move_a_project_that_is_locked(fitted, elsewhere, tmp_path):
    push_model(fitted / "second", parse_address(str(tmp_path / "shared")), retry=QUICK)
    with serving(files=served(tmp_path / "shared")) as server:
        lock = elsewhere(server.url + "kb")
        sync_models(lock, retry=QUICK)
    assert content(lock.parent / "models" / "blood") == content(fitted / "first")


def test_a_model_that_was_changed_on_the_server_is_refused(fitted, elsewhere, tmp_path):
    files = served(tmp_path / "shared")
    description = next(path for path in files if path.endswith("model.json"))
    with serving(files=files) as server:
        lock = elsewhere(server.url + "kb")
        files[description] = (fitted / "second" / "model.json").read_bytes()
        (pin,) = read_pins(lock, "model")
        with pytest.raises(LineageMismatch, match=rf"gives model .*, {pin.digest} was asked for; do not use it"):
            sync_models(lock, retry=QUICK)
        del files[description]
        with pytest.raises(NotAvailable, match=f"has no version {pin.digest}"):
            sync_models(lock, retry=QUICK)
    assert check_model(pin, lock) == [f"{lock.parent / 'models' / 'blood'} holds no model {pin.digest[:16]}"]
    assert [path.name for path in lock.parent.iterdir()] == ["genekb.lock"]


def test_another_or_a_damaged_model_in_its_place_is_replaced_only_if_that_is_asked_for(fitted, project, tmp_path):
    lock, folder = project / "genekb.lock", project / "models" / "blood"
    (pin,) = lock_models([folder], file=lock, url=str(tmp_path / "shared"))
    shutil.rmtree(folder)
    shutil.copytree(fitted / "second", folder)
    with pytest.raises(
        LineageMismatch, match=rf"is model .*, {pin.digest[:16]} is pinned; .* or .*pull` and overwrite=True"
    ):
        sync_models(lock, retry=QUICK)
    assert content(folder) == content(fitted / "second")
    sync_models(lock, overwrite=True, retry=QUICK)
    assert content(folder) == content(fitted / "first")
    (folder / "arrays.safetensors").write_bytes(b"x")
    assert "not the file that was written" in check_model(pin, lock)[0]
    sync_models(lock, overwrite=True, retry=QUICK)
    assert check_model(pin, lock) == []


def test_stores_and_models_of_a_lock_file_leave_each_other_alone(kb, fitted, project, tmp_path):
    lock, folder = project / "genekb.lock", project / "models" / "blood"
    write_pins([pin_store(kb, url=str(tmp_path / "kb"))], lock)
    lock_models([folder], file=lock, url="s3://bucket/models/blood")
    write_pins([pin_store(kb)], lock)
    assert [pin.url for pin in read_pins(lock)] == [""]
    shutil.copytree(fitted / "second", project / "other")
    first, second = lock_models([folder, project / "other"], file=lock)
    assert (first.url, second.url, second.name) == ("s3://bucket/models/blood", "", "other")
    assert [pin.digest for pin in read_pins(lock)] == [kb.manifest.digest]
    assert sorted(tomllib.loads(lock.read_text())) == ["model", "store", "version"]


def test_what_cannot_be_pinned_is_told(fitted, project, tmp_path):
    lock, folder = project / "genekb.lock", project / "models" / "blood"
    with pytest.raises(InputUnusable, match=r"does not lie below .*, the folder of the lock file"):
        lock_models([fitted / "first"], file=lock)
    with pytest.raises(InputUnusable, match=r"holds no model\.json"):
        lock_models([project / "models"], file=lock)
    with pytest.raises(SourceUnusable, match="was given with user and password"):
        lock_models([folder], file=lock, url="https://me:secret@example.org/models")
    assert not lock.exists()
    lock_models([folder], file=lock)
    shutil.rmtree(folder)
    with pytest.raises(NotAvailable, match=r"is not here, and .* has no address of it; copy it, or pin it"):
        sync_models(lock, retry=QUICK)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # huggingface_hub's own
def test_a_model_on_the_hub_is_pinned_by_its_digest_whatever_its_branch_stands_for(fitted, elsewhere, monkeypatch):
    from huggingface_hub import constants

    place = "hf://models/lab/human"
    with serving_hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", hub.token)
        digest = push_model(fitted / "first", parse_address(place), retry=QUICK).digest
        push_model(fitted / "second", parse_address(place), retry=QUICK)
        lock = elsewhere("hf://lab/human")
        with pytest.raises(LineageMismatch, match=rf"gives model .*, {digest} was asked for"):
            sync_models(lock, retry=QUICK)
        lock.write_text(lock.read_text().replace("hf://lab/human", f"{place}@{digest}"))
        sync_models(lock, retry=QUICK)
    assert content(lock.parent / "models" / "blood") == content(fitted / "first")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("models/blood", "../blood"),
        ("models/blood", "/tmp/blood"),
        ("digest", "sha256"),
        ("n_bytes = ", "n_bytes = 1.x"),
    ],
)
def test_a_damaged_entry_brings_nothing_and_leaves_its_project_never(project, old, new):
    lock = project / "genekb.lock"
    lock_models([project / "models" / "blood"], file=lock)
    lock.write_text(lock.read_text().replace(old, new))
    with pytest.raises(SourceUnusable, match="is no lock file"):
        sync_models(lock, retry=QUICK)


def test_the_commands_that_lock(kb, project, tmp_path, capsys, monkeypatch):
    def told(*args):
        program = ("genekb",) if args[0] == "lock" else ("cellmodel", "model")
        return call_here((*program, *args), capsys, monkeypatch)

    monkeypatch.chdir(project)
    locked = told("lock", "models/blood", "--url", "../shared", "--file", "genekb.lock")
    assert (locked.code, locked.err.count(f"needs {kb.store_id}, which is not pinned")) == (0, 1)
    monkeypatch.chdir("models")
    assert told("pull", "--check").code == 0
    shutil.rmtree("blood")
    missing = told("pull", "--check")
    assert (missing.code, missing.err.count("\n")) == (5, 1)
    assert "holds no model" in missing.out
    assert told("pull").out.endswith(": whole\n")
    assert told("pull", "--check").code == 0
    assert told("lock").out.startswith("models/blood ")
    assert told("lock").out.endswith(" ../shared\n")
    assert told("lock", "--url", "s3://bucket/x").code == 2
    assert told("pull", "--file", "absent.lock").code == 3


@pytest.mark.slow
def test_the_commands_that_push_and_pull(model, tmp_path):
    pushed = call_json("cellmodel", "model", "push", model, tmp_path / "shared")
    pulled = call_json(
        "cellmodel", "model", "pull", f"{tmp_path / 'shared'}@{pushed['digest']}", "-o", tmp_path / "here"
    )
    assert pulled["store_id"] == load_model(tmp_path / "here").lineage.store_id
    code, _, err = call("cellmodel", "model", "pull", tmp_path / "nothing", "-o", tmp_path / "there")
    assert (code, err.count("\n")) == (4, 1)
