"""Labels carried over: read as they stand, given where they are sure, written where asked and nowhere else."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import cellmodel as cm
from cellmodel.annotate.classify import ClassifyConfig, classify_cells
from cellmodel.annotate.label_transfer import (
    SHARPNESS,
    Labeled,
    TransferConfig,
    classify_by_text,
    held_out_limit,
    match_weights,
    read_labels,
    transfer_labels,
)
from cellmodel.annotate.shared_genes import TextMatch
from cellmodel.core.arrays import unit_rows
from cellmodel.core.config import RunConfig
from cellmodel.core.errors import InputUnusable
from cellmodel.io.cells import ReadConfig, cells_from_anndata
from cellmodel.io.formats.anndata import read_anndata
from cellmodel.io.writers import WriteConfig
from cellmodel.tl._classify import TransferJob
from cellmodel.tl._run.task import run_on_file

TYPES = ("B", "NK", "T")


@pytest.fixture(scope="module")
def kb(demo_store):
    return demo_store("hash-64")


@pytest.fixture(scope="module")
def symbols(kb):
    return kb.table("genes")["symbol"].to_pylist()[:200]


def made(symbols, sizes, seed):
    """Cells of three types, each with sixty genes of its own."""
    rates = np.ones((3, 200))
    for one in range(3):
        rates[one, 60 * one : 60 * (one + 1)] = 5
    codes = np.repeat([0, 1, 2], sizes)
    counts = np.random.default_rng(seed).poisson(rates[codes]).astype(np.float32)
    obs = pd.DataFrame({"type": np.array(TYPES)[codes]}, index=[f"c{i}" for i in range(len(codes))])
    return ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=symbols))


@pytest.fixture(scope="module")
def reference(symbols):
    return made(symbols, (40, 20, 30), 0)


@pytest.fixture(scope="module")
def query(symbols):
    return made(symbols, (10, 35, 25), 1)


def carried(query, reference, kb, **choices):
    transfer = TransferConfig(label_key="type", **choices)
    return transfer_labels(cells_from_anndata(query), cells_from_anndata(reference), kb, RunConfig(), transfer=transfer)


def test_missing_and_unassigned_labels_are_none(reference):
    adata = reference.copy()
    adata.obs["type"] = pd.Categorical([None, "", "unassigned", *adata.obs["type"][3:]])
    known = read_labels(cells_from_anndata(adata), "type")
    assert known.names == TYPES
    assert known.n_unlabeled == 3
    np.testing.assert_array_equal(known.rows, np.arange(3, 90))
    assert [TYPES[code] for code in known.codes] == adata.obs["type"][3:].tolist()


def test_a_column_of_one_class_is_refused(reference):
    adata = reference.copy()
    adata.obs["one"] = "B"
    with pytest.raises(InputUnusable, match=r"'one' of .* names 1 class in 90 labeled cells, 2 are needed"):
        read_labels(cells_from_anndata(adata), "one")


@pytest.mark.parametrize("genes_by", ["ids", "text"])
def test_labels_are_carried_over_whatever_the_shares_of_the_types(query, reference, kb, genes_by):
    found = carried(query, reference, kb, genes_by=genes_by)
    assert np.mean(np.array(found.labels) == query.obs["type"].to_numpy()) > 0.95
    assert sum(found.n_query.values()) == 70
    assert found.n_reference == (40, 20, 30)
    assert found.lineage.encoder_id == (kb.encoder_id() if genes_by == "text" else "")


def test_a_class_left_out_of_the_reference_becomes_unassigned(query, reference, kb):
    known = reference[(reference.obs["type"] != "NK").to_numpy()].copy()
    strict = ClassifyConfig(unassigned_below=0.9)
    found = np.array(carried(query, known, kb, classify=strict).labels)
    is_absent = (query.obs["type"] == "NK").to_numpy()
    assert (found[is_absent] == "unassigned").mean() > 0.7
    assert (found[~is_absent] == query.obs["type"][~is_absent]).mean() > 0.8


def test_the_limit_of_confidence_is_what_nine_in_ten_held_out_cells_reach_or_what_was_said(query, reference, kb):
    rng = np.random.default_rng(0)
    near, far = (
        np.concatenate([rng.standard_normal((100, 4)), rng.standard_normal((100, 4)) + step]) for step in (1, 6)
    )
    known = Labeled(rows=np.arange(200), codes=np.repeat([0, 1], 100), names=("a", "b"), n_unlabeled=0)
    limits = [held_out_limit(each, known, config=ClassifyConfig(), seed=0) for each in (near, far)]
    assert 0.5 < limits[0] < 0.9 < limits[1]
    fresh = classify_cells(near, labeled=known.rows, classes=known.codes, config=ClassifyConfig(), seed=0)
    assert np.mean(fresh.confidence < limits[0]) == pytest.approx(0.1, abs=0.05)
    assert carried(query, reference, kb, classify=ClassifyConfig(unassigned_below=0.25)).limit == 0.25


def test_one_labeled_cell_a_class_leaves_none_to_hold_out(query, reference, kb, caplog):
    first = [reference.obs["type"].tolist().index(kind) for kind in TYPES]
    few = reference.copy()
    few.obs["type"] = [kind if row in first else None for row, kind in enumerate(reference.obs["type"])]
    with caplog.at_level("INFO"):
        found = carried(query, few, kb)
    assert (found.limit, found.n_unlabeled) == (0.5, 87)
    assert "too few labeled cells to find a limit of confidence" in caplog.text


def test_labels_of_the_query_are_never_read(query, reference, kb):
    shuffled = query.copy()
    shuffled.obs["type"] = query.obs["type"].to_numpy()[::-1]
    first, second = (carried(each, reference, kb) for each in (query, shuffled))
    np.testing.assert_array_equal(first.prediction.probabilities, second.prediction.probabilities)


def test_tl_classify_writes_its_slots_and_nothing_else(query, reference, kb):
    before = reference.obs.copy()
    result = cm.tl.classify(query, reference, kb, label_key="type", key_added="given", copy=True)
    assert list(query.obs) == ["type"]
    assert set(result.obs) == {"type", "given", "given_confidence"}
    probabilities = result.obsm["given_probabilities"]
    likeliest = np.array(result.uns["given"]["classes"])[probabilities.argmax(axis=1)]
    sure = probabilities.max(axis=1) >= result.uns["given"]["unassigned_below"]
    np.testing.assert_array_equal(result.obs["given"], np.where(sure, likeliest, "unassigned"))
    np.testing.assert_allclose(result.obs["given_confidence"], probabilities.max(axis=1))
    pd.testing.assert_frame_equal(reference.obs, before)


def test_a_file_is_written_beside_its_inputs_and_never_over_them(query, reference, kb, tmp_path):
    query.write_h5ad(tmp_path / "q.h5ad")
    reference.write_h5ad(tmp_path / "r.h5ad")
    task = TransferJob(kb, RunConfig(), reference=tmp_path / "r.h5ad", transfer=TransferConfig(label_key="type"))

    def transferred(name):
        write = WriteConfig(output=tmp_path / name, key_added="given", overwrite=True)
        return run_on_file(tmp_path / "q.h5ad", task, read=ReadConfig(), write=write)

    found, written = transferred("out.h5ad"), read_anndata(tmp_path / "out.h5ad")
    assert written.obs["given"].astype(str).tolist() == list(found.labels)
    assert written.uns["given"]["reference"] == "r.h5ad"
    with pytest.raises(InputUnusable, match="is an input"):
        transferred("r.h5ad")


@pytest.mark.slow
def test_weights_are_those_of_optimal_transport():
    ot, rng = pytest.importorskip("ot"), np.random.default_rng(0)
    around = rng.normal(size=4)
    reference, query = (unit_rows(around + 0.2 * rng.normal(size=(n, 4))) for n in (25, 14))
    weights = match_weights(reference, query)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    plan = ot.sinkhorn(np.full(25, 1 / 25), np.full(14, 1 / 14), -reference @ query.T, reg=SHARPNESS, stopThr=1e-12)
    np.testing.assert_allclose(weights, 25 * plan, atol=0.01)


def test_types_are_found_by_genes_that_are_alike_in_text_alone():
    rng = np.random.default_rng(1)
    types, order = np.repeat([0, 1, 2], 30), rng.permutation(90)  # of the cells, and of the genes that lead in them
    reference, query = (
        ((types[:, None] == types) * 2.0 + rng.normal(size=(90, 90))).astype(np.float32) for _ in range(2)
    )
    vectors = unit_rows(rng.normal(size=(90, 40)))
    cells = TextMatch(
        reference=reference,
        query=query[:, order],
        query_features=query @ rng.normal(size=(90, 10)).astype(np.float32),
        reference_vectors=vectors,
        query_vectors=unit_rows(vectors + 0.15 * rng.normal(size=vectors.shape))[order],
    )
    found, again = (classify_by_text(cells, labeled=np.arange(90), classes=types, seed=0) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert np.mean(found.argmax(axis=1) == types) > 0.9
