"""Names of slots and seeds that a file cannot hold are wrong usage, said in one line before any work."""

import inspect

import anndata
import numpy as np
import pytest

import cellmodel as cm
import genekb
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import KeyUnusable
from genekb_cellmodel_cli import cellmodel as cli
from tests.robust.bad_files.cells import cells as make_cells
from tests.robust.bad_files.cells import save
from tests.support.commands import commands_of
from tests.support.in_process import call_here

KEYS = ["a/b", "../x", "/abs", "a/", "", " ", ".", "..", "_index", "a\0b", "a\udcff"]
PLAIN = "--knowledge none --recipe pca-kmeans"
COMMANDS = {
    "annotate": "{cells} --kb demo",
    "attribute": "{cells} --kb demo",
    "classify": "{cells} --kb demo --reference {cells} --label-key label",
    "cluster": f"{{cells}} {PLAIN}",
    "composition": "{cells} --cluster-key label --sample-key label --condition-key label",
    "markers": "{cells} --cluster-key label --sample-key label",
    "predict": "{cells} --model absent",
    "run": "{cells} --kb demo",
    "search": "{cells} blood --kb demo",
}
READERS = {"plot", "report"}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    genekb.build(genekb.read_demo_table(), genekb.BuildConfig(name="demo", models=("hash-16",)), home=folder)
    return folder


def parameters(command):
    return inspect.unwrap(command.callback).__annotations__


def test_every_command_that_writes_slots_is_tried_here():
    named = {words for words, command in commands_of(cli.app).items() if "key_added" in parameters(command)}
    assert named == set(COMMANDS) | READERS


@pytest.mark.parametrize("command", COMMANDS)
def test_a_key_that_no_file_holds_is_wrong_usage(command, home, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_cells().write_h5ad("cells.h5ad")
    words = [word.format(cells="cells.h5ad") for word in COMMANDS[command].split()]
    line = ["cellmodel", command, *words, "--home", home, "-o", "out.h5ad", "--key-added=a/b"]
    if "home" not in parameters(commands_of(cli.app)[command]):
        line = [word for word in line if word not in {"--home", home}]
    found = call_here(line, capsys, monkeypatch)
    assert (found.code, found.out) == (2, "")
    assert found.err.startswith("cellmodel: error: 'a/b' cannot name results in a file: it holds '/'")
    assert found.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cells.h5ad"]


@pytest.mark.parametrize("key", KEYS)
def test_python_refuses_the_same_keys(key, home):
    adata, kb = make_cells(), genekb.open("demo", home=home)
    before = adata.copy()
    for call in (
        lambda: cm.tl.cluster(adata, recipe="pca-kmeans", knowledge="none", key_added=key),
        lambda: cm.tl.embed(adata, recipe="pca-kmeans", knowledge="none", key_added=key),
        lambda: cm.tl.classify(adata, adata, kb, label_key="label", key_added=key),
        lambda: cm.tl.attribute(adata, kb, cluster_key="label", key_added=key),
        lambda: cm.tl.annotate(adata, kb, cluster_key="label", key_added=key),
        lambda: cm.tl.run(adata, kb, key_added=key),
        lambda: cm.tl.search(adata, kb, query="blood", key_added=key),
    ):
        with pytest.raises(ValueError, match=r"cannot name results in a file: .*key_added.* a plain name"):
            call()
    assert (list(adata.obs), list(adata.uns), list(adata.obsm)) == (list(before.obs), list(before.uns), [])


@pytest.mark.parametrize("more", [[], ["--out-of-core", "yes"]], ids=["in memory", "out of core"])
@pytest.mark.parametrize("suffix", [".h5ad", ".zarr"])
def test_the_name_of_the_index_is_taken(more, suffix, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    adata = make_cells()
    adata.obs.index.name = "mine"
    save(adata, tmp_path, f"in{suffix}")
    line = ["cellmodel", "cluster", f"in{suffix}", *PLAIN.split(), "--n-clusters", "2", *more, "-o", f"out{suffix}"]
    found = call_here([*line, "--overwrite", "--key-added", "mine"], capsys, monkeypatch)
    assert found.code == 2, found.err
    assert found.err.splitlines()[-1].startswith("cellmodel: error: the index of obs is named 'mine'")
    assert [path.name for path in tmp_path.iterdir()] == [f"in{suffix}"]
    with pytest.raises(KeyUnusable, match=r"adata.obs.index.name = None"):
        cm.tl.cluster(adata, recipe="pca-kmeans", knowledge="none", key_added="mine", overwrite=True)


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1, 2**64])
def test_a_seed_beyond_64_bits_is_wrong_usage(seed, tmp_path, capsys, monkeypatch):
    found = call_here(
        ["cellmodel", "cluster", "absent.h5ad", "-o", tmp_path / "o.h5ad", f"--seed={seed}"], capsys, monkeypatch
    )
    assert found.code == 2
    assert f"a seed must lie from {-(2**63)} to {2**63 - 1}, got {seed}" in found.err
    with pytest.raises(ValueError, match=f"a seed must lie from .*, got {seed}"):
        RunConfig(seed=seed)
    with pytest.raises(ValueError, match=f"a seed must lie from .*, got {seed}"):
        cm.tl.cluster(make_cells(), knowledge="none", random_state=seed)


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63)])
def test_the_largest_and_smallest_seeds_are_kept(seed, home, tmp_path, capsys, monkeypatch):
    make_cells().write_h5ad(tmp_path / "in.h5ad")
    line = ["cellmodel", "cluster", tmp_path / "in.h5ad", *PLAIN.split(), "--n-clusters", "2", f"--seed={seed}"]
    assert call_here([*line, "-o", tmp_path / "out.h5ad"], capsys, monkeypatch).code == 0
    uns = anndata.read_h5ad(tmp_path / "out.h5ad").uns
    assert uns["cellmodel"]["seed"] == uns["cellmodel_neighbors"]["params"]["random_state"] == np.int64(seed)
    compared = ["genekb", "compare", "--kb", "demo", "--home", home, "--genes", "100", f"--seed={seed}"]
    assert call_here(compared, capsys, monkeypatch).code == 0


@pytest.mark.parametrize(
    ("seeds", "why"),
    [
        ("0-99999999999", "0-99999999999 names 100,000,000,000 seeds, at most 10,000 are run"),
        ("0-9223372036854775807", "at most 10,000 are run"),
        ("0,4-0", "4-0 ends below its start; write 0-4"),
        ("0-4-2", "numbers or ranges parted by commas"),
        ("²", "numbers or ranges parted by commas"),
        ("9223372036854775808", "a seed must lie from"),
    ],
)
@pytest.mark.parametrize(
    "command",
    [["bench", "absent", "-o", "absent"], ["bench", "absent.h5ad", "--thin", "0.5", "-o", "absent"]],
    ids=["folder", "file"],
)
def test_seeds_that_cannot_be_run_are_wrong_usage(command, seeds, why, capsys, monkeypatch):
    found = call_here(["cellmodel", *command, "--seeds", seeds], capsys, monkeypatch)
    assert found.code == 2
    assert why in found.err
