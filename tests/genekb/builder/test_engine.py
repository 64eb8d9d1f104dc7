"""Shards encoded by workers of Ray, or in any order: the same bytes as in one process, whoever is killed on the way."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import genekb
from genekb.builder.engine import LOCAL, EncodingJob, EngineConfig, open_engine, plan_pool
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import add_encoders
from genekb.core.errors import EncoderFailed, NotAvailable
from genekb.encoders import EncodedTexts, load_encoder
from genekb.sources.ncbi_bulk import read_ncbi_folder
from genekb.sources.table import read_gene_table
from genekb_cellmodel_cli.genekb import app
from tests.support.in_process import call, call_json
from tests.support.processes import start

ROOT = Path(__file__).parents[3]
WORDS = ("hormone", "insulin", "glucose", "receptor", "kinase", "membrane", "factor", "domain")


def write_genes(path, n_genes):
    rng = np.random.default_rng(0)
    rows = [f"{gene}\tG{gene}\tGene {gene}: {' '.join(rng.choice(WORDS, 5))}." for gene in range(1, n_genes + 1)]
    path.write_text("\n".join(["gene_id\tsymbol\tsummary", *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def genes(tmp_path_factory):
    """About six shards of texts."""
    return write_genes(tmp_path_factory.mktemp("genes") / "genes.tsv", 3000)


class Backwards:
    """An engine that hands shards back in the opposite order, each encoded as the local one does."""

    def encode(self, shards, *, job, state):
        yield from reversed(list(LOCAL.encode(shards, job=job, state=state)))


@pytest.mark.slow
def test_the_order_in_which_shards_are_finished_does_not_matter(genes, tmp_path):
    source = read_gene_table(genes, release="1", taxon="human")
    first = build(source, BuildConfig(name="t", models=("hash-32",)), home=tmp_path)
    kb = genekb.open(first.folder)
    forth = add_encoders(kb, ["wcp-8"], load=load_encoder, home=tmp_path / "forth")
    back = add_encoders(kb, ["wcp-8"], load=load_encoder, engine=Backwards(), home=tmp_path / "back")
    assert back.manifest.digest == forth.manifest.digest
    assert (back.n_encoded, back.n_reused, back.n_kept) == (3000, 0, 0)


class Short:
    """An engine that loses the last dimension on the way."""

    def encode(self, shards, *, job, state):
        for number, part in LOCAL.encode(shards, job=job, state=state):
            yield (
                number,
                EncodedTexts(vectors=part.vectors[:, :-1], n_tokens=part.n_tokens, n_tokens_cut=part.n_tokens_cut),
            )


def test_vectors_of_another_shape_are_refused_whoever_made_them(ncbi_folder, tmp_path):
    kb = genekb.open(
        build(read_ncbi_folder(ncbi_folder, taxa=["human"]), BuildConfig(name="h", models=()), home=tmp_path).folder
    )
    with pytest.raises(EncoderFailed, match=r"hash-8-\w+ gave vectors of shape \(\d+, 7\) with 0 non-finite values"):
        add_encoders(kb, ["hash-8"], load=load_encoder, engine=Short(), home=tmp_path)


nodes = st.lists(st.integers(1, 70), min_size=1, max_size=6)


@given(nodes=nodes, data=st.data())
def test_every_worker_finds_room(nodes, data):
    workers = data.draw(st.none() | st.integers(1, sum(nodes)))
    size = plan_pool(nodes, workers=workers)
    assert workers in (None, size.workers)
    assert sum(cpus // size.threads for cpus in nodes) >= size.workers


@pytest.mark.parametrize(
    ("nodes", "choices", "expected"),
    [
        ([2], {}, (1, 2, 0)),
        ([2], {"workers": 2}, (2, 1, 0)),
        ([64], {}, (16, 4, 0)),
        ([2, 4], {"workers": 2}, (2, 2, 0)),
        ([8, 8], {"n_gpus": 4}, (4, 4, 1)),
        ([2], {"workers": 8, "threads": 4}, (8, 4, 0)),  # they wait until the cluster has grown
    ],
)
def test_sizes_of_pools(nodes, choices, expected):
    size = plan_pool(nodes, **choices)
    assert (size.workers, size.threads, size.gpus) == expected


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"name": "dask"}, "engine 'dask' is not one of local, ray"),
        ({"name": "ray", "workers": 0}, "workers must be >= 1, got 0"),
        ({"name": "ray", "stall_timeout_s": 0.0}, "must be a number of seconds > 0"),
        ({"name": "ray", "stall_timeout_s": float("inf")}, "must be a number of seconds > 0"),
        ({"workers": 2}, "belong to the engine ray; the local one has `threads`"),
        ({"ray_address": "auto"}, "belong to the engine ray"),
    ],
)
def test_choices_that_make_no_sense_are_refused(choices, message):
    with pytest.raises(ValueError, match=message):
        EngineConfig(**choices)


def test_the_command_calls_them_wrong_usage(tmp_path):
    result = CliRunner().invoke(app, ["build", "--workers", "2", "--home", str(tmp_path)])
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_without_ray_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT)])
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    sys.path_importer_cache.clear()
    with (
        pytest.raises(NotAvailable, match=r"pip install 'genekb-cellmodel\[ray\]', or use engine=.local"),
        open_engine(EngineConfig(name="ray")),
    ):
        pass


class Elsewhere:
    """An engine that nothing may be given to."""

    def encode(self, shards, *, job, state):
        raise AssertionError(job.spec.encoder_id, state)


def test_an_address_at_which_nothing_listens_is_said_to_have_no_ray(tmp_path):
    encoder = load_encoder("hash-8")
    job = EncodingJob(spec=encoder.spec, open=lambda: encoder)
    with (
        open_engine(EngineConfig(name="ray", ray_address="127.0.0.1:9")) as engine,
        pytest.raises(NotAvailable, match=r"no Ray that lets this process in at '127\.0\.0\.1:9'; start one with `ray"),
    ):
        list(engine.encode([(0, ["insulin"])], job=job, state=tmp_path))


# From here on Ray itself is started.


@pytest.fixture(scope="module")
def local(genes, tiny_model, tmp_path_factory):
    """The store that one process makes."""
    return call_json("genekb", *build_arguments(genes, tiny_model, tmp_path_factory.mktemp("local")))


def build_arguments(genes, model, home):
    return [
        "build",
        "--source",
        genes,
        "--model",
        model,
        "--model",
        "wcp-16",
        "--name",
        "t@1",
        "--home",
        home,
        "--threads",
        "1",
    ]


def ray_arguments(genes, model, home):
    return [*build_arguments(genes, model, home), "--engine", "ray", "--workers", "2", "--json"]


def start_ray(genes, model, home):
    """Start a build, and give it when two shards are finished and others are not."""
    process = start("genekb", *ray_arguments(genes, model, home))
    deadline = time.monotonic() + 240
    while len(list(home.rglob("part-*.parquet"))) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def workers_of(process):
    return [child for child in psutil.Process(process.pid).children(recursive=True) if "_Worker" in child.name()]


@pytest.mark.slow
def test_ray_makes_the_store_that_one_process_makes(genes, tiny_model, local, tmp_path):
    code, out, err = call("genekb", *ray_arguments(genes, tiny_model, tmp_path))
    assert code == 0, err
    assert json.loads(out)["digest"] == local["digest"]
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(genes, tiny_model, local, tmp_path):
    process = start_ray(genes, tiny_model, tmp_path)
    victims = workers_of(process)
    victims[0].kill()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    result = json.loads(out)
    assert result["digest"] == local["digest"]
    assert result["n_encoded_now"] == 6000


@pytest.mark.slow
def test_a_driver_that_is_killed_is_gone_on_with(genes, tiny_model, local, tmp_path):
    process = start_ray(genes, tiny_model, tmp_path)
    workers = workers_of(process)
    assert workers
    process.kill()
    process.communicate()
    assert psutil.wait_procs(workers, timeout=60)[1] == []  # none goes on computing
    result = call_json("genekb", *ray_arguments(genes, tiny_model, tmp_path)[:-1])
    assert result["n_kept_from_interrupted_run"] > 0
    assert result["n_encoded_now"] + result["n_kept_from_interrupted_run"] == 6000
    assert result["digest"] == local["digest"]


@pytest.fixture
def poisoned_model(tiny_model, tmp_path):
    """The same model, but one of its words has no finite vector."""
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(tiny_model, tmp_path / "poisoned"))
    weights = load_file(folder / "model.safetensors")
    row = (folder / "vocab.txt").read_text().splitlines().index("insulin")
    weights["embeddings.word_embeddings.weight"][row] = np.nan
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.mark.slow
def test_an_encoder_that_fails_on_a_worker_ends_as_it_does_here(genes, poisoned_model, tmp_path):
    ended = call("genekb", *build_arguments(genes, poisoned_model, tmp_path / "local"))
    on_ray = call("genekb", *ray_arguments(genes, poisoned_model, tmp_path / "ray"))
    assert (ended[0], on_ray[0]) == (5, 5)
    for _, _, err in (ended, on_ray):
        last = err.splitlines()[-1]
        assert re.match(r"genekb: error: encoder 'poisoned' gave text \d+ a vector of length nan", last)
        assert "Traceback" not in err


@pytest.mark.slow
def test_workers_that_finish_nothing_end_the_command(genes, tiny_model, tmp_path):
    process = start("genekb", *ray_arguments(genes, tiny_model, tmp_path), "--stall-timeout-s", "0.5")
    _, err = process.communicate(timeout=300)  # of its own: Ray's thread ends with its process
    assert process.returncode == 4, err
    assert "no shard was finished for 0.5 s by 2 Ray workers" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.slow
def test_what_is_left_of_the_work_when_ray_has_ended_starts_no_other(tmp_path):
    import ray

    encoder = load_encoder("hash-8")
    job = EncodingJob(spec=encoder.spec, open=lambda: encoder)
    with open_engine(EngineConfig(name="ray", workers=1)) as engine:
        parts = engine.encode(((number, ["insulin"]) for number in range(50)), job=job, state=tmp_path)
        next(parts)
    parts.close()  # as late as the traceback of an error of the one who writes lets go of it
    assert not ray.is_initialized()


@pytest.fixture
def cluster(monkeypatch):
    """Address of a Ray that runs already."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    code = (
        "import ray, sys; ray.init(address='local', include_dashboard=False, num_cpus=2, log_to_driver=False, "
        "object_store_memory=1 << 28); print(ray.get_runtime_context().gcs_address, flush=True); sys.stdin.read()"
    )
    environment = dict(os.environ, PYTHONPATH=str(ROOT), RAY_USAGE_STATS_ENABLED="0")
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment,
    )  # fmt: skip
    yield process.stdout.readline().strip()
    process.communicate(timeout=60)


@pytest.mark.slow
def test_a_cluster_that_runs_is_used_and_left_running(genes, tiny_model, local, cluster, tmp_path):
    for home in ("first", "second"):
        arguments = [*ray_arguments(genes, tiny_model, tmp_path / home), "--ray-address", cluster]
        code, out, err = call("genekb", *arguments)
        assert code == 0, err
        assert json.loads(out)["digest"] == local["digest"]
