"""The commands as their users run them: in a process, with real files, looking at stdout, stderr and the exit code."""

import json
import os
import signal
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import anndata
import numpy as np
import pytest

import genekb
from genekb.core.errors import NotAvailable
from tests.support.demo import demo_file, variable_demo_cells
from tests.support.in_process import call, call_here, call_json
from tests.support.processes import call as call_apart
from tests.support.processes import start


@pytest.fixture(scope="module")
def home(tmp_path_factory, ncbi_folder):
    folder = tmp_path_factory.mktemp("home")
    call_json("genekb", "build", "--model", "wcp-64", "--home", folder)
    for taxon in ("human", "mouse"):
        call_json(
            "genekb", "build", "--source", ncbi_folder, "--taxon", taxon, "--model", "hash-16", "--home", folder,
            "--name", f"small-{taxon}",
        )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def clustered(home, tmp_path_factory):
    folder = tmp_path_factory.mktemp("clustered")
    content = call_json(
        "cellmodel", "cluster", demo_file(), "--kb", "demo", "--home", home, "-o", folder / "out.h5ad",
        "--report", folder / "report.html",
    )  # fmt: skip
    return folder, content


def test_list_info_and_verify_agree_with_the_build(home):
    stores = {row["store"]: row for row in call_json("genekb", "info", "--home", home)["stores"]}
    assert set(stores) == {"demo@1", "small-human@2022-11", "small-mouse@2022-11"}
    info = call_json("genekb", "info", "demo", "--home", home)
    assert info["path"] == stores["demo@1"]["path"]
    assert stores["demo@1"]["encoders"] == list(info["encoders"])
    assert info["n_texts"] == stores["demo@1"]["n_texts"] == 752
    assert call_json("genekb", "verify", "demo", "--home", home)["faults"] == []
    assert "752, 752 with a text" in call("genekb", "info", "demo", "--home", home)[1]


def test_path_prints_the_folder_alone_for_scripts(home, capsys, monkeypatch):
    found = call_here(["genekb", "info", "--path", "demo", "--home", home], capsys, monkeypatch)
    assert (found.code, found.err) == (0, "")
    assert found.out == f"{genekb.open('demo', home=home).folder}\n"
    none = call_here(["genekb", "info", "--path", "nothing", "--home", home], capsys, monkeypatch)
    assert (none.code, none.out, none.err.count("\n")) == (4, "", 1)


def test_search_and_sql_answer(home):
    hits = call_json("genekb", "search", "T cell receptor", "--kb", "demo", "--home", home, "--limit", "5")["hits"]
    assert {"CD3D", "CD3E", "CD3G", "CD247"} & {hit["symbol"] for hit in hits}
    rows = call_json("genekb", "sql", "select count(*) from genes", "--kb", "demo", "--home", home)["rows"]
    assert rows == [[752]]


def test_models_lists_every_encoder_and_where_it_is():
    models = {row["name"]: row for row in call_json("genekb", "info", "--models")["models"]}
    assert {"minilm", "biobert", "scibert", "pubmedbert", "sapbert", "medcpt", "wcp", "hash-256"} <= set(models)


def test_resolve_reports_coverage_and_fails_below_the_minimum(home):
    cells = demo_file()
    content = call_json("genekb", "resolve", cells, "--kb", "demo", "--home", home)
    assert content["n_names"] == 765
    assert content["n_with_text"] == 752
    assert content["share_counts"] > 0.98
    assert {loss["name"] for loss in content["losses"]} >= {"TMBIM4-1", "RP11-782C8.1"}
    code, _, err = call("genekb", "resolve", cells, "--kb", "demo", "--home", home, "--min-coverage", "0.99")
    assert code == 3
    assert "98.3% of the genes" in err


def test_resolve_reads_a_plain_list_of_names(home, tmp_path):
    (tmp_path / "names.txt").write_text("CD3D\nMARCH1\nnonsense\n")
    content = call_json("genekb", "resolve", tmp_path / "names.txt", "--kb", "small-human", "--home", home)
    assert (content["n_names"], content["n_resolved"]) == (3, 2)


def test_resolve_reports_antibodies_of_a_list_and_probes_of_a_table(home, tmp_path):
    (tmp_path / "panel.txt").write_text("CD3_TotalSeqB\nCD45RA\n206804_at\n")
    (tmp_path / "probes.csv").write_text("Probe,Gene Symbol\n206804_at,CD3G\n")
    asked = ("genekb", "resolve", tmp_path / "panel.txt", "--kb", "demo", "--home", home)
    content = call_json(*asked, "--table", tmp_path / "probes.csv")
    assert content["proteins"][0] == {"name": "CD3_TotalSeqB", "genes": ["CD3D", "CD3E", "CD3G"]}
    assert {status for status, *_ in content["by_status"]} == {"protein", "complex", "table"}


def test_dry_run_writes_nothing(tmp_path, ncbi_folder):
    arguments = (
        "--source",
        ncbi_folder,
        "--model",
        "hash-32",
        "--model",
        "wcp-8",
        "--vector-dtype",
        "float32",
    )
    content = call_json("genekb", "build", *arguments, "--dry-run", "--home", tmp_path / "home")
    assert 10 < content["n_texts"] < content["n_genes"]  # protein-coding genes
    assert {name: cost["n_bytes"] // content["n_unique_texts"] for name, cost in content["estimate"].items()} == {
        "hash-32": 128,
        "wcp-8": 32,
    }
    assert all(cost["seconds"] >= 0 for cost in content["estimate"].values())
    assert not (tmp_path / "home").exists()


def test_a_dry_run_ends_as_the_run_would_where_the_model_is_not_there(tmp_path, ncbi_folder):
    for dry_run in ([], ["--dry-run"]):
        run = ("build", "--source", ncbi_folder, "--model", "biobert", "--home", tmp_path / "home", *dry_run)
        code, _, err = call("genekb", *run)
        assert (code, "encoder 'biobert (" in err) == (4, True)


def test_a_dry_run_of_encode_and_update_estimates_what_they_would_encode(home, ncbi_folder, old_ncbi_folder, tmp_path):
    costs = call_json("genekb", "encode", "demo", "--model", "hash-32", "--home", home, "--dry-run")["estimate"]
    assert costs["hash-32"]["n_bytes"] == costs["hash-32"]["n_texts"] * 64
    call_json("genekb", "build", "--source", old_ncbi_folder, "--model", "hash-8", "--name", "old", "--home", tmp_path)
    plan = call_json("genekb", "update", "old", "--source", ncbi_folder, "--home", tmp_path, "--dry-run")
    assert {key: cost["n_texts"] for key, cost in plan["estimate"].items()} == plan["n_to_encode"]
    assert len(call_json("genekb", "info", "--home", tmp_path)["stores"]) == 1


def test_cluster_says_what_it_read_and_what_it_found(clustered):
    _, content = clustered
    assert content["value_kind"] == "log1p"
    assert any(".raw" in note for note in content["notes"])
    assert (content["n_cells"], content["n_genes"]) == (700, 765)
    assert content["n_clusters"] >= 4
    assert sum(row["n_cells"] for row in content["clusters"]) == 700
    sizes = [row["n_cells"] for row in content["clusters"]]
    assert sizes == sorted(sizes, reverse=True)
    agreement = content["neighbor_agreement"]
    assert agreement["real"] > agreement["shuffled"]
    assert agreement["real"] > agreement["random"]


def test_the_annotated_file_holds_the_slots_and_the_input_is_untouched(clustered):
    folder, content = clustered
    before, after = variable_demo_cells(), anndata.read_h5ad(folder / "out.h5ad")
    assert after.obs["cellmodel"].cat.categories.tolist() == [str(n) for n in range(content["n_clusters"])]
    assert after.obs["cellmodel_confidence"].between(0, 1).all()
    for key in ("X_cellmodel", "X_cellmodel_text", "X_cellmodel_expr", "X_cellmodel_joint"):
        assert np.isfinite(after.obsm[key]).all()
    assert after.uns["cellmodel"]["store_id"].startswith("demo@1:")
    assert (after.var["cellmodel_gene_id"] > 0).sum() == 752
    np.testing.assert_array_equal(before.X, after.X)
    np.testing.assert_array_equal(before.obsm["X_umap"], after.obsm["X_umap"])
    assert set(before.obs) <= set(after.obs)


def test_scanpy_goes_on_from_the_file(clustered):
    import scanpy as sc

    adata = anndata.read_h5ad(clustered[0] / "out.h5ad")
    sc.tl.diffmap(adata, n_comps=5, neighbors_key="cellmodel_neighbors")
    assert np.isfinite(adata.obsm["X_diffmap"]).all()
    sc.tl.rank_genes_groups(adata, "cellmodel", method="t-test")
    assert set(adata.uns["rank_genes_groups"]["names"].dtype.names) == set(adata.obs["cellmodel"].cat.categories)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # numba and umap warn of their own affairs
def test_umap_of_scanpy_runs_on_our_graph(clustered):
    import scanpy as sc

    adata = anndata.read_h5ad(clustered[0] / "out.h5ad")
    before = adata.obsm["X_umap"].copy()
    sc.tl.umap(adata, neighbors_key="cellmodel_neighbors")
    assert np.isfinite(adata.obsm["X_umap"]).all()
    assert not np.allclose(before, adata.obsm["X_umap"])


def test_eval_scores_and_the_report_can_be_written_again(clustered, tmp_path, capsys, monkeypatch):
    folder, _ = clustered
    evaluated = call_here(
        ["cellmodel", "eval", folder / "out.h5ad", "--truth", "bulk_labels", "--json"], capsys, monkeypatch
    )
    scores = json.loads(evaluated.out)
    assert 0.4 < scores["nmi"] <= 1
    assert scores["n_types"] == 10
    report = call_here(["cellmodel", "report", folder / "out.h5ad", "-o", tmp_path / "again.html"], capsys, monkeypatch)
    assert report.code == 0, report.err
    assert (folder / "report.html").stat().st_size > 50_000
    assert "TMBIM4-1" in (tmp_path / "again.html").read_text()


def test_embed_adds_no_clusters(home, tmp_path):
    out = tmp_path / "e.h5ad"
    content = call_json("cellmodel", "cluster", "--no-clusters", demo_file(), "--kb", "demo", "--home", home, "-o", out)
    assert "n_clusters" not in content
    adata = anndata.read_h5ad(out)
    assert "cellmodel" not in adata.obs
    assert adata.obsm["X_cellmodel"].shape[0] == 700


def test_without_knowledge_no_store_is_needed(tmp_path):
    content = call_json(
        "cellmodel", "cluster", demo_file(), "--knowledge", "none", "--n-clusters", "6", "-o", tmp_path / "n.h5ad"
    )
    assert content["n_clusters"] == 6
    assert "store" not in content


@pytest.mark.parametrize(
    ("command", "args", "code", "message"),
    [
        ("cellmodel", ["cluster", "absent.h5ad", "-o", "x.h5ad", "--knowledge", "none"], 3, "absent.h5ad"),
        ("cellmodel", ["cluster", "CELLS", "-o", "x.h5ad"], 2, "needs a store"),
        ("cellmodel", ["cluster", "CELLS", "-o", "x.h5ad", "--kb", "nix"], 4, "no store 'nix'"),
        ("cellmodel", ["cluster", "CELLS", "-o", "x.h5ad", "--kb", "demo", "--n-clusters", "0"], 2, "a number >= 1"),
        ("cellmodel", ["cluster", "CELLS", "-o", "x.h5ad", "--kb", "demo", "--knowledge", "fake"], 2, "--knowledge"),
        ("cellmodel", ["cluster", "CELLS", "-o", "x.h5ad", "--kb", "demo", "--encoder", "minilm"], 4, "no encoder"),
        ("cellmodel", ["cluster", "CELLS", "-o", "no/x.h5ad", "--kb", "demo"], 3, "not a folder"),
        ("cellmodel", ["cluster", "CELLS", "-o", "x.h5ad", "--kb", "demo", "--n-clusters", "701"], 3, "700 cells"),
        (
            "cellmodel",
            ["cluster", "CELLS", "-o", "x.h5ad", "--kb", "demo", "--layer", "a", "--use-raw"],
            2,
            "leave one out",
        ),
        (
            "cellmodel",
            ["bench", "CELLS", "--off", "-o", "out", "--truth", "a", "--layer", "a", "--use-raw"],
            2,
            "leave one out",
        ),
        ("cellmodel", ["clutser"], 2, "No such command"),
        ("cellmodel", ["eval", "CELLS", "--truth", "nothing"], 3, "nothing"),
        ("genekb", ["build", "--source", "nowhere"], 3, "nowhere does not exist"),
        ("genekb", ["build", "--model", "no-such-model"], 4, "no-such-model"),
        ("genekb", ["search", "x", "--kb", "nix"], 4, "no store 'nix'"),
        ("genekb", ["sql", "drop table genes", "--kb", "demo"], 3, "the query failed"),
    ],
)
def test_a_mistake_gives_one_clear_line_and_its_exit_code(home, tmp_path, command, args, code, message):
    args = [str(demo_file()) if word == "CELLS" else word for word in args]
    if args[0] in {"cluster", "build", "search", "sql"}:
        args += ["--home", str(home)]
    args = [str(tmp_path / word) if word in {"x.h5ad", "no/x.h5ad"} else word for word in args]
    found, out, err = call(command, *args)
    assert found == code, err
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []
    if code != 2:
        assert sum("error:" in line for line in err.splitlines()) == 1


def test_a_traceback_comes_only_with_debug():
    code, _, err = call("cellmodel", "--debug", "eval", "absent.h5ad", "--truth", "x")
    assert code == 1
    assert "Traceback" in err
    assert "InputUnusable" in err


@pytest.mark.slow
def test_an_interrupted_build_says_how_to_go_on(real_data, tmp_path):
    process = start(
        "genekb", "build", "--source", real_data / "ncbi" / "2022-11", "--model", "minilm", "--home", tmp_path
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("part-*.parquet")) and time.monotonic() < deadline and process.poll() is None:
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "goes on where it was" in err


@pytest.mark.parametrize("command", ["genekb", "cellmodel"])
def test_shell_completion_is_there(command):
    assert "--install-completion" in call(command, "--help")[1]


def test_cells_of_another_species_are_recognized(home, tmp_path):
    names = ["CD3D", "CD3E", "CD19", "MS4A1", "GCG", "XIST"]
    counts = np.random.default_rng(0).poisson(2.0, (20, 6)).astype(np.float32)
    anndata.AnnData(counts, var={"name": names}).write_h5ad(tmp_path / "c.h5ad")
    args = ["cluster", tmp_path / "c.h5ad", "-o", tmp_path / "o.h5ad", "--kb", "small-mouse", "--home", home]
    code, _, err = call("cellmodel", *args, "--gene-key", "name")
    assert code == 3
    assert "0 of 6 genes (0.0%) have a text in small-mouse@2022-11" in err
    assert "6 of them are symbols of the store when case is ignored, so the cells are of another species" in err


@pytest.fixture
def hub_without_models():
    """A hub on loopback that knows no model."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(404)

        do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_model_that_the_hub_does_not_give_is_one_line_without_secrets(hub_without_models, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", hub_without_models)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecretsecret")
    # in a process of its own: huggingface_hub reads these when it is imported
    code, _, err = call_apart("genekb", "build", "--model", "biobert", "--online", "--home", tmp_path / "home")
    assert code == 4, err
    assert "the Hugging Face model 'dmis-lab/biobert" in err
    assert "secret" not in err
    assert not (tmp_path / "home").exists()


def test_messages_of_a_command_name_commands_and_options_and_those_of_python_functions(tmp_path, capsys, monkeypatch):
    asked = ("genekb", "search", "--kb", "nobody", "T cell", "--home", tmp_path)
    assert "make it with `genekb build`" in call_here(asked, capsys, monkeypatch).err
    with pytest.raises(NotAvailable, match=r"make it with `genekb build`"):
        genekb.open("nobody", home=tmp_path)
