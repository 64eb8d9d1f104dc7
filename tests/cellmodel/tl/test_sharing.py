"""Fitted models that travel: the same predictions elsewhere, or a clear refusal."""

import json
import re

import pytest

import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable, LineageMismatch
from cellmodel.io.cells import cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.tl._demo import find_demo_cells
from cellmodel.tl._run.pipeline import run
from cellmodel.tl.model.fitted import fit_model, load_model, save_model
from cellmodel.tl.model.share import pull_model, push_model
from genekb.core.errors import NotAvailable, StoreCorrupt
from genekb.share.pull import PullConfig, pull_store
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from tests.genekb.share.test_share import QUICK, content, served
from tests.support.in_process import call, call_json
from tests.support.loopback import Fault, serving


@pytest.fixture(scope="module")
def model(tmp_path_factory, demo_store):
    """Folder of a fitted model."""
    kb = demo_store("hash-16")
    cells = cells_from_anndata(read_anndata(find_demo_cells()).raw.to_adata()[:200].copy())
    fitted = fit_model(cells, run(cells, kb, RunConfig(recipe="pca-kmeans", n_words=0, n_clusters=3)))
    folder = tmp_path_factory.mktemp("models") / "blood"
    save_model(fitted, folder)
    return folder


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


@pytest.mark.slow
def test_the_commands(model, tmp_path):
    pushed = call_json("cellmodel", "model", "push", model, tmp_path / "shared")
    pulled = call_json(
        "cellmodel", "model", "pull", f"{tmp_path / 'shared'}@{pushed['digest']}", "-o", tmp_path / "here"
    )
    assert pulled["store_id"] == load_model(tmp_path / "here").lineage.store_id
    code, _, err = call("cellmodel", "model", "pull", tmp_path / "nothing", "-o", tmp_path / "there")
    assert (code, err.count("\n")) == (4, 1)
