"""Sentences that an encoder reads beside pooled gene vectors: what is drawn, what is compared, what is told."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import spearmanr

import genekb
from cellmodel.core.config import RunConfig, SemanticsConfig
from cellmodel.io.cells import cells_from_anndata, read_cells
from cellmodel.pl.report.collect.frames import report_data
from cellmodel.pp.text.align import fit_whitening
from cellmodel.pp.text.sentences import (
    ReadSentences,
    SentenceReading,
    cell_sentences,
    compare_readings,
    draw_cells,
    encode_sentences,
    read_clusters,
)
from cellmodel.tl._run.pipeline import run
from tests.support.demo import demo_cells
from tests.support.in_process import call_json

NAMES = tuple("ABCDEFGHI")


def random_cells(seed, n_cells=40):
    dense = np.random.default_rng(seed).poisson(1.0, (n_cells, len(NAMES))).astype(np.float32)
    return sp.csr_matrix(np.log1p(dense))


def read_by_letters(sentences):
    """A vector that depends on the order of the genes."""
    rows = [
        [sum((at + 1) * (ord(char) % 7 == k) for at, char in enumerate(text)) for k in range(4)] for text in sentences
    ]
    counts = np.array([len(text.split()) for text in sentences], dtype=np.int32)
    vectors = np.array(rows, dtype=np.float32).reshape(len(sentences), 4)
    return ReadSentences(vectors=vectors, n_tokens=counts, n_tokens_cut=0 * counts, n_encoded=len(sentences))


def letters_reading(n_top=5):
    vectors = np.random.default_rng(5).standard_normal((len(NAMES), 4)).astype(np.float32)
    whitening = fit_whitening(vectors, rank=4)
    return SentenceReading(
        columns=np.arange(len(NAMES)), names=NAMES, gene_vectors=whitening(vectors), whitening=whitening,
        n_top=n_top, read=read_by_letters,
    )  # fmt: skip


def test_a_sentence_names_genes_by_rank():
    expression = sp.csr_matrix(np.array([[1.0, 3.0, 0.0, 2.0], [0.0, 0.0, 0.0, 0.0]]))
    assert cell_sentences(expression, ["A", "B", "C", "D"], n_top=2, mean=np.ones(4)) == ["B D", ""]


def test_encoded_sentences_are_read_once_each_and_centered():
    asked = []

    def read(sentences):
        asked.extend(sentences)
        return read_by_letters(sentences)

    result, _ = encode_sentences(["A B", "C", "A B", ""], replace(letters_reading(), read=read))
    assert asked == ["A B", "C"]
    np.testing.assert_array_equal(result[0], result[2])
    np.testing.assert_array_equal(result[3], 0.0)
    np.testing.assert_allclose(result.sum(axis=0), 0.0, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_same_cells_are_drawn_in_whatever_order_and_blocks_they_come(seed):
    dense = random_cells(seed).toarray()
    dense[3] = 0.0
    dense[7] = dense[8]
    order = np.random.default_rng(seed).permutation(len(dense))
    drawn = dense[draw_cells([sp.csr_matrix(dense)], n_cells=20, seed=seed)]
    again = dense[order][
        draw_cells([sp.csr_matrix(dense[order][:9]), sp.csr_matrix(dense[order][9:])], n_cells=20, seed=seed)
    ]
    np.testing.assert_array_equal(drawn, again)
    every = draw_cells([sp.csr_matrix(dense)], n_cells=100, seed=seed)
    assert sorted(map(tuple, dense[every])) == sorted({tuple(row) for row in dense if row.any()})
    assert draw_cells([sp.csr_matrix(dense)], n_cells=100, seed=seed + 1).tolist() != every.tolist()


def test_agreement_is_that_of_a_double_loop():
    rng = np.random.default_rng(0)
    encoded = rng.standard_normal((30, 6))
    pooled = encoded[:, :4] + rng.standard_normal((30, 4))
    cosines, nearest = [], []
    for side in (pooled, encoded):
        centered = side - side.mean(axis=0)
        table = np.array([[a @ b / np.sqrt((a @ a) * (b @ b)) for b in centered] for a in centered])
        cosines.append([table[i, j] for i in range(30) for j in range(i)])
        np.fill_diagonal(table, -2)
        nearest.append([set(np.argsort(-row)[:15]) for row in table])
    (found,) = compare_readings({"real": pooled}, encoded)
    assert found.similarity == pytest.approx(spearmanr(*cosines).statistic)
    overlap = np.mean([len(a & b) / 15 for a, b in zip(*nearest, strict=True)])
    assert found.neighbor_overlap == pytest.approx(overlap)


def test_a_turned_and_shifted_embedding_agrees_fully_and_shuffled_cells_do_not():
    rng = np.random.default_rng(1)
    encoded = rng.standard_normal((200, 5))
    turned = encoded @ np.linalg.qr(rng.standard_normal((5, 5)))[0] * 3 + 7
    same, shuffled = compare_readings({"turned": turned, "shuffled": rng.permutation(turned)}, encoded)
    assert (same.similarity, same.neighbor_overlap) == pytest.approx((1.0, 1.0))
    assert abs(shuffled.similarity) < 0.1
    assert shuffled.neighbor_overlap == pytest.approx(15 / 199, abs=0.03)


@pytest.mark.parametrize("encoded", [np.eye(16), np.ones((30, 4))])
def test_nothing_is_compared_where_nothing_can_differ(encoded):
    assert compare_readings({"real": np.random.default_rng(0).standard_normal(encoded.shape)}, encoded) == ()


def test_cluster_sentences_are_those_of_mean_cells():
    dense, labels = np.random.default_rng(2).exponential(size=(40, len(NAMES))), np.arange(40) % 3  # no ties
    reading = letters_reading(n_top=3)
    means = np.array([dense[labels == cluster].mean(axis=0) for cluster in range(3)])
    order = [sorted(range(len(NAMES)), key=lambda gene: -row[gene])[:3] for row in means]
    discount = 1 / np.log2([2, 3, 4])
    pooled = np.array([discount @ reading.gene_vectors[genes] / discount.sum() for genes in order])
    encoded = read_by_letters([" ".join(NAMES[gene] for gene in genes) for genes in order]).vectors
    pooled, encoded = pooled - pooled.mean(axis=0), (encoded - encoded.mean(axis=0)) @ reading.whitening.components
    for found in read_clusters(sp.csr_matrix(means), reading, mean=dense.mean(axis=0)):
        row = encoded[found.cluster] / np.linalg.norm(encoded[found.cluster])
        cosines = [row @ other / np.linalg.norm(other) for other in pooled]
        assert found.cosine == pytest.approx(cosines.pop(found.cluster), abs=1e-5)
        assert found.cosine_others == pytest.approx(np.mean(cosines), abs=1e-5)
        assert found.genes[:3] == tuple(NAMES[gene] for gene in order[found.cluster])


def test_one_cluster_has_no_sentence():
    means = sp.csr_matrix(random_cells(0).mean(axis=0))
    assert read_clusters(means, letters_reading(), mean=means.toarray()[0]) == ()


@pytest.fixture(scope="module")
def adata():
    return demo_cells()[:200].copy()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    config = genekb.BuildConfig(name="demo", models=("wcp-32",))
    home = tmp_path_factory.mktemp("home")
    return genekb.open(genekb.build(genekb.read_demo_table(), config, home=home).folder)


@pytest.fixture
def kb(store):
    """The store, of which no sentence is kept."""
    shutil.rmtree(store.folder.parents[2] / "cache", ignore_errors=True)
    return store


def run_with(adata, kb, sentences, **changes):
    semantics = SemanticsConfig(sentences=sentences)
    config = RunConfig(recipe="genept-s", n_words=0, n_clusters=4, semantics=semantics, **changes)
    return run(cells_from_anndata(adata.copy()), kb, config)


def test_sampled_changes_no_cell_and_tells_what_encoded_tells_and_nothing_is_encoded_twice(adata, kb):
    pooled, encoded, again, sampled = (
        run_with(adata, kb, sentences) for sentences in ("pooled", "encoded", "encoded", "sampled")
    )
    assert pooled.sentences is None
    assert sampled.representation.z.tobytes() == pooled.representation.z.tobytes()
    np.testing.assert_array_equal(sampled.labels, pooled.labels)
    assert (encoded.text.paths[1] != pooled.text.paths[1]).any()
    assert encoded.text.sentences_encoded
    assert not sampled.text.sentences_encoded
    for one, other in zip(sampled.sentences.agreement, encoded.sentences.agreement, strict=True):
        assert one.similarity == pytest.approx(other.similarity, abs=1e-3)
    assert encoded.sentences.n_encoded == encoded.sentences.n_sentences > 0
    assert again.sentences == replace(encoded.sentences, n_encoded=0)
    assert again.representation.z.tobytes() == encoded.representation.z.tobytes()
    assert [row.pooled for row in sampled.sentences.agreement] == ["real", "shuffled genes", "shuffled cells"]
    assert [row.cluster for row in sampled.sentences.clusters] == [0, 1, 2, 3]


@pytest.mark.slow
def test_the_order_of_cells_changes_no_agreement(adata, kb):
    order = np.random.default_rng(0).permutation(adata.n_obs)
    one, other = (run_with(cells, kb, "sampled").sentences for cells in (adata, adata[order]))
    assert (other.n_sentences, other.n_encoded) == (one.n_sentences, 0)
    for row, again in zip(one.agreement, other.agreement, strict=True):
        assert (row.similarity, row.neighbor_overlap) == pytest.approx(
            (again.similarity, again.neighbor_overlap), abs=1e-3
        )


def test_controls_of_knowledge_are_pooled_and_it_is_said(adata, kb, caplog):
    found = run_with(adata, kb, "encoded", knowledge="shuffled")
    assert found.sentences is None
    assert not found.text.sentences_encoded
    assert "sentences hold no shuffled texts" in caplog.text


def test_the_command_tells_agreement_and_keeps_it_in_the_file_and_the_report_shows_it(adata, kb, tmp_path):
    adata.write_h5ad(tmp_path / "cells.h5ad")
    options = ("--kb", kb.folder, "--recipe", "genept-s", "--n-clusters", "3", "--sentences", "sampled", "--json")
    found = call_json("cellmodel", "cluster", tmp_path / "cells.h5ad", *options, "-o", tmp_path / "out.h5ad")
    told, cells = found["sentences"], read_cells(tmp_path / "out.h5ad")
    kept = cells.adata.uns["cellmodel"]["sentences"]
    assert told["n_encoded"] == told["n_sentences"] == kept["n_encoded"] > 0
    assert json.loads(kept["agreement"].to_json(orient="records", double_precision=15)) == [
        pytest.approx(row) for row in told["agreement"]
    ]
    assert kept["clusters"]["genes"].tolist() == [" ".join(row["genes"]) for row in told["clusters"]]
    shown = report_data(cells, cluster_key="cellmodel").provenance
    for row in told["agreement"]:
        assert f"{row['similarity']:.2f}" in shown[f"sentences, pooled ({row['pooled']}) beside encoded"]
    assert shown["sentences read"].startswith(str(told["n_sentences"]))
