"""Gene-level tasks on the demo store: tables whose answer is known."""

import gzip

import numpy as np
import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import import_vectors
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.encoders.imported.vectors import read_foreign
from genekb.query.knowledge import knowledge_vectors
from genekb.query.tasks import ridge
from genekb.query.tasks.ridge import Points, fit_whole, score_rounds
from genekb.query.tasks.scores import bootstrap_interval, compare_tasks, read_published
from genekb.query.tasks.tables import Round, hash_folds, read_task, read_tasks

N_FOLDS = 3


@pytest.fixture(scope="module")
def kb(demo_store):
    return demo_store("wcp-32", "random-16")


@pytest.fixture(scope="module")
def symbols(kb):
    """Symbol of each gene with a text."""
    genes = kb.table("genes")
    known = dict(zip(genes["gene_id"].to_pylist(), genes["symbol"].to_pylist(), strict=True))
    return {gene: known[gene] for gene in kb.table("texts")["gene_id"].to_pylist()}


def write(folder, name, rows, header="term\tgene_id\tlabel\tsplit"):
    folder.mkdir(exist_ok=True)
    text = "\n".join([header, *("\t".join(map(str, row)) for row in rows)]) + "\n"
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def split_of(number):
    return "test" if number % 4 == 3 else f"fold{number % 4 + 1}"


def halves(kb):
    """Rows of a term that the first direction of the vectors decides, so that the vectors know it."""
    found = knowledge_vectors(kb, "wcp-32")
    first = np.linalg.svd(found.vectors - found.vectors.mean(axis=0), full_matrices=False)[0][:, 0]
    order = np.argsort(first)
    chosen = np.r_[order[:60], order[-60:]]  # far apart
    rows = [
        ("split in two", found.gene_ids[row], int(number >= 60), split_of(number)) for number, row in enumerate(chosen)
    ]
    return rows


@pytest.fixture
def folder(kb, tmp_path):
    write(tmp_path / "tasks", "known.tsv", halves(kb))
    return tmp_path / "tasks"


def score(kb, folder, **options):
    found = compare_tasks([kb], folder, encoders=["wcp-32"], **options)
    return {row.knowledge: row for row in found.rows}


def test_what_the_vectors_decide_is_predicted_and_the_shuffled_control_is_at_chance(kb, folder):
    rows = score(kb, folder)
    assert list(rows) == ["real", "shuffled", "name", "symbol"]
    assert rows["real"].auroc > 0.99
    assert 0.2 < rows["shuffled"].auroc < 0.8
    assert (rows["real"].n_genes, rows["real"].n_missing, rows["real"].n_terms) == (120, 0, 1)


def test_shuffled_vectors_are_at_chance_on_the_mean_of_many_terms(kb, folder):
    genes = knowledge_vectors(kb, "wcp-32").gene_ids[:100]
    drawn = np.random.default_rng(0).integers(2, size=(90, 100))
    rows = [(f"t{term}", gene, drawn[term, at], split_of(at)) for term in range(90) for at, gene in enumerate(genes)]
    write(folder, "chance.tsv.gz", rows)
    found = compare_tasks([kb], folder, encoders=["wcp-32"], knowledge=["real", "shuffled"])
    chance = [row for row in found.rows if row.task == "chance"]
    assert [row.n_terms for row in chance] == [90, 90]
    for row in chance:
        assert row.low < row.auroc < row.high
        assert abs(row.auroc - 0.5) < 0.06


def test_labels_of_scored_genes_are_not_learnt(kb, folder):
    vectors = knowledge_vectors(kb, "wcp-32")
    task = read_task(folder / "known.tsv", kb)
    term = task.terms[0]
    members = np.searchsorted(vectors.gene_ids, term.genes)
    unit = Points(vectors=vectors.vectors, members=members).unit(np.arange(len(members)))
    kernel = np.exp(2 * (unit @ unit.T - 1)).astype(np.float32)
    for kind, n_rounds in (("test", 1), ("inner", N_FOLDS)):
        assert len(term.rounds[kind]) == n_rounds
        for each in term.rounds[kind]:
            assert not (each.train & each.scored).any()
            permuted = term.has_term.copy()
            permuted[~each.train] = ~permuted[~each.train]
            np.testing.assert_array_equal(fit_whole(kernel, term.has_term, each), fit_whole(kernel, permuted, each))


def test_inner_scores_do_not_see_the_labels_of_test(kb, folder):
    rows = [(term, gene, 1 - label if split == "test" else label, split) for term, gene, label, split in halves(kb)]
    write(folder, "known.tsv", [(*row[:2], row[2], row[3]) for row in rows])
    turned = score(kb, folder, knowledge=["real"], scored_on="inner")["real"].auroc
    write(folder, "known.tsv", halves(kb))
    assert turned == score(kb, folder, knowledge=["real"], scored_on="inner")["real"].auroc > 0.99


def test_a_class_with_few_genes_weighs_as_much_as_the_other():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    has_term = np.arange(60) % 6 == 0
    parts = Round(train=np.arange(60) < 42, scored=np.arange(60) >= 42)
    kernel = np.exp(-2 * (1 - vectors @ vectors.T))
    train = np.flatnonzero(parts.train)
    weight = np.where(has_term[train], 42 / (2 * has_term[train].sum()), 42 / (2 * (~has_term[train]).sum()))
    system = kernel[np.ix_(train, train)] + 3 * np.diag(1 / weight)
    expected = kernel[42:, :42] @ np.linalg.solve(system, np.where(has_term[train], 1, -1))
    np.testing.assert_allclose(fit_whole(kernel.astype(np.float32), has_term, parts), expected, atol=1e-4)


def test_some_of_the_rows_as_landmarks_score_as_all_of_them_do(monkeypatch):
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((50, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    members = rng.integers(50, size=(300, 2))
    summed = vectors[members].sum(axis=1)
    has_term = summed[:, 0] + 0.3 * rng.standard_normal(300) > 0
    parts = [Round(train=np.arange(300) < 200, scored=np.arange(300) >= 200)]
    points = Points(vectors=vectors, members=members)
    exact = score_rounds(points, has_term, parts)
    monkeypatch.setattr(ridge, "MOST_EXACT", 100)
    assert score_rounds(points, has_term, parts) == pytest.approx(exact, abs=0.01)
    assert exact > 0.9


def test_the_interval_is_around_the_mean_and_one_term_has_none():
    figures = np.random.default_rng(0).normal(0.8, 0.05, size=60)
    low, high = bootstrap_interval(figures, seed=0)
    error = figures.std(ddof=1) / np.sqrt(60)
    assert low == pytest.approx(figures.mean() - 1.96 * error, abs=0.004)
    assert high == pytest.approx(figures.mean() + 1.96 * error, abs=0.004)
    assert bootstrap_interval(figures[:1], seed=0) == (None, None)


def test_rows_are_compared_with_the_first_one_term_by_term(kb, folder):
    genes = knowledge_vectors(kb, "wcp-32").gene_ids[:100]
    drawn = np.random.default_rng(1).integers(2, size=(12, 100))
    rows = [(f"t{term}", gene, drawn[term, at], split_of(at)) for term in range(12) for at, gene in enumerate(genes)]
    write(folder, "known.tsv", rows)
    found = compare_tasks([kb, kb], folder, encoders=["wcp-32"], knowledge=["real", "symbol"])
    first, same, other, _ = found.rows
    assert first.difference is None
    assert same.knowledge == "symbol"
    expected = np.mean([area - first.by_term[name] for name, area in same.by_term.items()])
    assert same.difference == pytest.approx(expected)
    assert same.difference_low < same.difference < same.difference_high
    assert (other.knowledge, other.difference, other.difference_low) == ("real", 0.0, 0.0)


def test_symbols_are_resolved_and_unknown_names_listed(kb, folder, symbols):
    rows = [(symbols[gene], label, split) for _, gene, label, split in halves(kb)]
    write(folder, "known.tsv", [*rows, ("NOSUCHGENE", 1, "test")], header="gene\tlabel\tsplit")
    found = compare_tasks([kb], folder, encoders=["wcp-32"], knowledge=["real"])
    assert found.unknown == {"known": ("NOSUCHGENE",)}
    assert (found.rows[0].n_genes, found.rows[0].n_missing) == (120, 1)
    assert found.rows[0].auroc > 0.99


def test_gene_ids_that_the_store_does_not_know_are_listed_and_left_out(kb, folder):
    write(folder, "known.tsv", [*halves(kb), ("split in two", 999_999_999, 1, "test")])
    found = compare_tasks([kb], folder, encoders=["wcp-32"], knowledge=["real"])
    assert found.unknown == {"known": ("999999999",)}
    assert next(iter(found.missing["known"].values())) == (999_999_999,)
    assert found.rows[0].n_missing == 1


def test_without_parts_each_fold_is_scored_in_turn(kb, folder):
    write(folder, "known.tsv", [row[:3] for row in halves(kb)], header="term\tgene_id\tlabel")
    task = read_task(folder / "known.tsv", kb)
    rounds = task.terms[0].rounds
    assert not task.has_test
    assert (len(rounds["test"]), len(rounds["inner"])) == (5, 20)
    np.testing.assert_array_equal(sum(each.scored.astype(int) for each in rounds["test"]), 1)
    folds = hash_folds(task.terms[0].genes[:, 0])
    for each in (*rounds["test"], *rounds["inner"]):
        assert not set(folds[each.train]) & set(folds[each.scored])
    assert score(kb, folder, knowledge=["real"])["real"].auroc > 0.99


PAIRS = "gene_id_1\tgene_id_2\tlabel"


def pairs(kb, n=400):
    """Pairs of genes that have the label if the vectors of both point to one side."""
    found = knowledge_vectors(kb, "wcp-32")
    first = np.linalg.svd(found.vectors - found.vectors.mean(axis=0), full_matrices=False)[0][:, 0]
    drawn = np.random.default_rng(0).integers(len(first), size=(n, 2))
    drawn = drawn[drawn[:, 0] < drawn[:, 1]]
    return [(*found.gene_ids[pair], int(first[pair].sum() > 0)) for pair in drawn]


def test_pairs_are_scored_in_their_folds(kb, tmp_path):
    parts = ["test", "-", "train:tv.", "train:vt.", "train:t.v", "train:.tt"]
    rows = [(*row, parts[number % 6]) for number, row in enumerate(pairs(kb))]
    write(tmp_path / "tasks", "pairs.tsv", rows, header=f"{PAIRS}\tfold0")
    task = read_task(tmp_path / "tasks" / "pairs.tsv", kb)
    rounds = task.terms[0].rounds
    assert task.terms[0].genes.shape[1] == 2
    assert (len(rounds["test"]), len(rounds["inner"])) == (1, 3)
    assert rounds["test"][0].train.sum() == sum(part.startswith("train") for *_, part in rows)
    row = compare_tasks([kb], tmp_path / "tasks", encoders=["wcp-32"], knowledge=["real"]).rows[0]
    assert row.auroc > 0.85
    assert (row.n_terms, row.low) == (1, None)


def test_pairs_without_folds_share_no_gene_between_training_and_scoring(kb, tmp_path):
    write(tmp_path / "tasks", "pairs.tsv", pairs(kb, 2_000), header=PAIRS)
    term = read_task(tmp_path / "tasks" / "pairs.tsv", kb).terms[0]
    for each in (*term.rounds["test"], *term.rounds["inner"]):
        assert not set(term.genes[each.train].ravel()) & set(term.genes[each.scored].ravel())


def test_published_figures_pass_through_and_are_marked(kb, folder):
    write(
        folder,
        "published.tsv",
        [("A", 0.9, 0.91, 0.7), ("B", "", 0.8, 0.6)],
        "embedding\tknown_shared_genes\tknown\tother",
    )
    found = compare_tasks([kb], folder, encoders=["wcp-32"], knowledge=["real"])
    published = [
        (row.encoder, row.variant, row.auroc, row.store_id) for row in found.rows if row.knowledge == "published"
    ]
    assert published == [("A", "shared_genes", 0.9, ""), ("A", "", 0.91, ""), ("B", "", 0.8, "")]
    inner = compare_tasks([kb], folder, encoders=["wcp-32"], knowledge=["real"], scored_on="inner")
    assert all(row.knowledge != "published" for row in inner.rows)


def test_a_column_of_a_longer_name_is_not_taken_for_the_task(kb, folder):
    write(folder, "published.tsv", [("A", 0.9)], "embedding\tknown_before_2024")
    assert read_published(folder, ["known"]) == ()


def test_a_term_without_both_classes_is_reported(kb, folder):
    rows = halves(kb)
    one = [("one class", gene, 1, split) for _, gene, _, split in rows]
    untested = [("untested", gene, int(split == "test" or label), split) for _, gene, label, split in rows]
    write(folder, "known.tsv", [*rows, *one, *untested])
    found = compare_tasks([kb], folder, encoders=["wcp-32"], knowledge=["real"])
    assert set(found.skipped_terms["known"]) == {"one class", "untested"}
    assert found.rows[0].n_terms == 1


def test_a_term_without_a_test_part_is_left_out_where_others_have_one(kb, folder):
    rows = halves(kb)
    folds = [("folds alone", *row[1:]) for row in rows if row[3] != "test"]
    write(folder, "known.tsv", [*rows, *folds])
    found = compare_tasks([kb], folder, encoders=["wcp-32"], knowledge=["real"])
    assert found.skipped_terms["known"] == ("folds alone",)
    inner = compare_tasks([kb], folder, encoders=["wcp-32"], knowledge=["real"], scored_on="inner")
    assert inner.rows[0].n_terms == 2


def test_a_second_store_is_scored_on_the_same_genes(kb, folder, tmp_path):
    source = genekb.read_demo_table()
    other = genekb.open(build(source, BuildConfig(name="older", models=("wcp-32",)), home=tmp_path / "home").folder)
    found = compare_tasks([kb, other], folder, encoders=["wcp-32"], knowledge=["real"])
    assert [row.store_id for row in found.rows] == [kb.store_id, other.store_id]
    assert found.rows[0].auroc == pytest.approx(found.rows[1].auroc, abs=0.02)


def test_a_control_of_the_store_is_scored_as_it_is_and_symbols_once(kb, folder):
    found = compare_tasks([kb], folder)
    rows = {(row.encoder.rpartition("-")[0], row.knowledge): row for row in found.rows}
    assert list(rows) == [("wcp-32", kind) for kind in ("real", "shuffled", "name", "symbol")] + [("random-16", "real")]
    assert 0.2 < rows["random-16", "real"].auroc < 0.8


def test_imported_vectors_are_scored_without_the_control_by_name(kb, folder, tmp_path):
    found = knowledge_vectors(kb, "wcp-32")
    lines = [f"{gene} {' '.join(map(str, row))}" for gene, row in zip(found.gene_ids, found.vectors, strict=True)]
    (tmp_path / "made.vec").write_text("\n".join([f"{len(lines)} 32", *lines]))
    foreign = read_foreign(tmp_path / "made.vec", keys="gene_id")
    built = import_vectors(kb, foreign, name="made", home=tmp_path, keys="gene_id", min_resolved=0.5).build
    opened = genekb.open(built.folder)
    rows = compare_tasks([opened], folder, encoders=["made"])
    assert [row.knowledge for row in rows.rows] == ["real", "shuffled", "symbol"]
    assert any("has no control 'name'" in note for note in rows.left_out)
    with pytest.raises(NotAvailable, match="leave it out of `knowledge`"):
        compare_tasks([opened], folder, encoders=["made"], knowledge=["real", "name"])


BAD = {
    "label": ([("t", 915, 2, "test")], None, "label '2' is neither 0 nor 1"),
    "gene": ([("t", "CD3D", 1, "test")], None, "gene_id 'CD3D' is no GeneID; call a column of symbols 'gene'"),
    "split": ([("t", 915, 1, "")], None, "a row of 't' has no split"),
    "both": ([("t", 915, 1, "test"), ("t", 915, 0, "fold1")], None, "gene 915 has both labels for 't'"),
    "empty": ([], None, "holds no row"),
    "twice": ([(915, 1, 1)], "gene_id\tlabel\tlabel", "column 'label' twice"),
    "names": ([("NOSUCH", 1)], "gene\tlabel", "none of 1 names is a gene of demo"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_table_that_is_not_right_is_one_line(kb, tmp_path, case):
    rows, header, message = BAD[case]
    path = write(tmp_path / "tasks", "bad.tsv", rows, **({"header": header} if header else {}))
    with pytest.raises(SourceUnusable, match="bad") as error:
        read_tasks(path.parent, kb)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_without_tasks_and_other_tables_are_reported(kb, folder, tmp_path):
    (folder / "terms.tsv").write_text("task\tterm\n")
    assert read_tasks(folder, kb)[1] == {"terms.tsv": "no table of a task: it lacks a column label, or genes"}
    (tmp_path / "none").mkdir()
    for path, why in ((tmp_path / "none", "has no table of a task"), (tmp_path / "gone", "is not a folder")):
        with pytest.raises(SourceUnusable, match=why):
            read_tasks(path, kb)


def test_inner_scores_need_two_folds(kb, folder):
    write(folder, "known.tsv", [(*row[:3], "test" if row[3] == "test" else "train") for row in halves(kb)])
    with pytest.raises(SourceUnusable, match="inner scores need two folds beside test"):
        score(kb, folder, scored_on="inner")
