"""Labels of unseen perturbations, and the area under the curve of a gene."""

import csv
import gzip

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import cellmodel as cm
from cellmodel.core.errors import InputUnusable
from cellmodel.perturb.features import GRID, Settings
from cellmodel.perturb.model import gene_aucs, mean_gene_auc
from cellmodel.perturb.predict import (
    COLUMNS,
    PREDICTED,
    TRAINED,
    PerturbConfig,
    predict_files,
    read_other_lines,
    read_pairs,
)
from tests.support.screens import TOPICS, pairs, symbol, write_table

TRAIN, QUERY = pairs()


@pytest.fixture
def tables(tmp_path):
    return write_table(tmp_path / "train.tsv", TRAIN), write_table(tmp_path / "query.tsv", QUERY)


def run(tables, kb, tmp_path, name="out.tsv", **more):
    also = more.pop("also", None)
    found = predict_files(*tables, kb, tmp_path / name, config=PerturbConfig(**more), also=also or (), overwrite=True)
    with (tmp_path / name).open(newline="") as stream:
        return found, list(csv.DictReader(stream, delimiter="\t"))


def auc(tables, tmp_path, name="out.tsv"):
    return cm.bench.perturb_eval([tmp_path / name], tables[1], draws=20)[0].auc


def test_text_wins_where_families_share_words_and_controls_are_at_chance(tables, screen_kb, tmp_path):
    found, rows = run(tables, screen_kb, tmp_path)
    assert list(rows[0]) == list(COLUMNS)
    assert [(row["perturbation"], row["gene"]) for row in rows] == [pair[:2] for pair in QUERY]
    assert {row["source"] for row in rows} == {PREDICTED}
    assert auc(tables, tmp_path) > 0.75
    assert found.auc_out_of_fold > 0.75
    for knowledge in ("shuffled", "symbol"):
        run(tables, screen_kb, tmp_path, name=f"{knowledge}.tsv", knowledge=knowledge)
        assert 0.4 < auc(tables, tmp_path, f"{knowledge}.tsv") < 0.6


def test_probabilities_are_calibrated_in_the_large(tables, screen_kb, tmp_path):
    _, rows = run(tables, screen_kb, tmp_path)
    p, labels = np.array([float(row["p"]) for row in rows]), np.array([row[2] for row in QUERY])
    assert ((p >= 0) & (p <= 1)).all()
    for low, high in ((0.0, 0.4), (0.6, 1.0)):
        inside = (p >= low) & (p <= high)
        assert inside.sum() > 100
        assert labels[inside].mean() == pytest.approx(p[inside].mean(), abs=0.1)


def test_nearest_trained_perturbations_are_of_the_family_and_show_a_shared_sentence(tables, screen_kb, tmp_path):
    _, rows = run(tables, screen_kb, tmp_path)
    family = {symbol(topic, number): topic for topic in TOPICS for number in range(20)}
    same = [family[row["nearest_1"]] == family[row["perturbation"]] for row in rows]
    assert np.mean(same) > 0.9
    trained = {row[0] for row in TRAIN}
    for row in rows[:: len(rows) // 10]:
        assert {row[f"nearest_{rank}"] for rank in (1, 2, 3)} <= trained
        assert row["shared_1"] in row["sentence_1"].lower()


@pytest.mark.parametrize("labels", ["permuted", "absent"])
def test_labels_of_the_query_change_no_byte(labels, tables, screen_kb, tmp_path):
    run(tables, screen_kb, tmp_path)
    rows = [(*row[:2], QUERY[-place - 1][2]) for place, row in enumerate(QUERY)]
    columns = ("perturbation", "gene", "label") if labels == "permuted" else ("perturbation", "gene")
    other = write_table(tmp_path / "query2.tsv", rows, columns=columns)
    run((tables[0], other), screen_kb, tmp_path, name="again.tsv")
    assert (tmp_path / "again.tsv").read_bytes() == (tmp_path / "out.tsv").read_bytes()


def test_settings_are_chosen_by_training_labels_alone_and_recorded(tables, screen_kb, tmp_path):
    found, _ = run(tables, screen_kb, tmp_path)
    chosen = found.record()["settings"]
    assert chosen.keys() == GRID.keys()
    assert all(chosen[name] in values for name, values in GRID.items())
    assert found.settings != Settings()
    query = write_table(tmp_path / "q.tsv", [*QUERY[:3], (QUERY[0][0], "NOSUCH", 1)])
    assert run((tables[0], query), screen_kb, tmp_path, name="few.tsv")[0].settings == found.settings
    labels = np.random.default_rng(0).permutation([row[2] for row in TRAIN])
    noise = write_table(tmp_path / "noise.tsv", [(*row[:2], one) for row, one in zip(TRAIN, labels, strict=True)])
    assert run((noise, query), screen_kb, tmp_path, name="noise.out.tsv")[0].settings != found.settings


def test_the_order_of_rows_and_other_queries_change_no_prediction(tables, screen_kb, tmp_path):
    _, rows = run(tables, screen_kb, tmp_path)
    few = write_table(tmp_path / "few.tsv", QUERY[::-1][:40])
    mixed = write_table(tmp_path / "mixed.tsv", TRAIN[::-1])
    _, again = run((mixed, few), screen_kb, tmp_path, name="few.out.tsv")
    of_pair = {(row["perturbation"], row["gene"]): float(row["p"]) for row in rows}
    for row in again:
        assert float(row["p"]) == pytest.approx(of_pair[row["perturbation"], row["gene"]], abs=1e-3)


def test_a_trained_perturbation_is_answered_from_its_data_and_says_so(tables, screen_kb, tmp_path):
    query = write_table(tmp_path / "q.tsv", [*TRAIN[:30], *QUERY[:10]])
    found, rows = run((tables[0], query), screen_kb, tmp_path)
    assert [row["source"] for row in rows] == [TRAINED] * 30 + [PREDICTED] * 10
    assert [float(row["p"]) for row in rows[:30]] == [row[2] for row in TRAIN[:30]]
    only, _ = run((tables[0], write_table(tmp_path / "q2.tsv", TRAIN[:5])), screen_kb, tmp_path, name="own.tsv")
    assert (set(only.source), only.neighbors) == ({TRAINED}, {})
    assert (found.record()["n_answered_from_training"], found.record()["n_predicted"]) == (30, 10)


def test_a_trained_perturbation_with_another_gene_is_predicted_with_a_note(tables, screen_kb, tmp_path):
    train = write_table(tmp_path / "t.tsv", TRAIN[1:])
    query = write_table(tmp_path / "q.tsv", TRAIN[:1])
    _, rows = run((train, query), screen_kb, tmp_path)
    assert (rows[0]["source"], rows[0]["note"]) == (PREDICTED, "trained, but not with this gene")


def test_names_that_the_store_has_not_are_listed_and_get_the_frequency_of_the_gene(tables, screen_kb, tmp_path):
    gene = QUERY[0][1]
    query = write_table(tmp_path / "q.tsv", [("NOSUCH1", gene), *QUERY[:5]], columns=("perturbation", "gene"))
    found, rows = run((tables[0], query), screen_kb, tmp_path)
    labels = [row[2] for row in TRAIN if row[1] == gene]
    assert found.unknown == ("NOSUCH1",)
    assert "no text of the perturbation" in rows[0]["note"]
    assert (float(rows[0]["score"]), rows[0]["nearest_1"]) == (0.0, "")
    assert float(rows[0]["p"]) == pytest.approx(np.mean(labels), abs=0.02)


def test_labels_of_another_line_help_where_they_are_and_it_says_so(tables, screen_kb, tmp_path):
    plain, _ = run(tables, screen_kb, tmp_path, knowledge="shuffled")
    assert plain.also == ""
    also = write_table(tmp_path / "other.tsv", [*TRAIN, *QUERY])
    found, rows = run(tables, screen_kb, tmp_path, name="also.tsv", knowledge="shuffled", also=[also])
    assert (found.also, found.n_shared, found.n_trained) == ("other.tsv", 72, 72)
    assert {row["note"] for row in rows} == {"labels of other.tsv used"}
    assert auc(tables, tmp_path, "also.tsv") > 0.9
    assert (found.record()["also"], found.record()["n_predicted_with_also"]) == ("other.tsv", len(QUERY))


def test_a_pair_of_several_lines_has_the_mean_of_its_labels(tmp_path):
    pairs = [("A", "X", 1), ("A", "Y", 0)]
    first, second = write_table(tmp_path / "k.tsv", pairs), write_table(tmp_path / "r.tsv", [("A", "X", 0), *pairs])
    table = read_other_lines([first, second])
    assert dict(zip(table.pairs, table.labels.tolist(), strict=True)) == {
        ("A", "X"): pytest.approx(2 / 3),
        ("A", "Y"): 0,
    }
    assert table.source == "k.tsv, r.tsv"


def test_another_line_with_few_shared_perturbations_is_not_used(tables, screen_kb, tmp_path, caplog):
    also = write_table(tmp_path / "other.tsv", TRAIN[:70])
    found, rows = run(tables, screen_kb, tmp_path, also=[also])
    assert found.n_shared == 0
    assert {row["note"] for row in rows} == {""}
    assert "2 trained perturbations are in the other table, 20 are needed; not used" in caplog.text


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (TRAIN[: 64 * 5], "has 5 perturbations, at least 20 are needed"),
        ([(*row[:2], 1) for row in TRAIN], "every label of train.tsv is 1, both 0 and 1 are needed"),
        ([*TRAIN, TRAIN[0]], "1 pair more than once"),
        ([*TRAIN, ("A", "B", 0.5)], "has the label '0.5'; a label is 0 or 1"),
        ([*TRAIN, ("", "B", 1)], "has no perturbation"),
        ([], "has no row below its header"),
        ([(f"NO{row[0]}", *row[1:]) for row in TRAIN], "0 trained perturbations of train.tsv have a text"),
        ([(f"NO{row[0]}", f"NO{row[1]}", row[2]) for row in TRAIN], "0 trained perturbations of train.tsv"),
    ],
)
def test_what_cannot_be_learned_from_is_one_line_with_what_is_needed(rows, message, tables, screen_kb, tmp_path):
    write_table(tables[0], rows)
    with pytest.raises(InputUnusable, match=message):
        run(tables, screen_kb, tmp_path)
    assert not (tmp_path / "out.tsv").exists()


def test_a_missing_column_is_named(tables, screen_kb, tmp_path):
    write_table(tables[0], TRAIN, columns=("perturbation", "gene"))
    with pytest.raises(InputUnusable, match="has the columns perturbation, gene, not label"):
        run(tables, screen_kb, tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.tsv", b"\x00\xff\xfe\x89", "no text in UTF-8"),
        ("t.tsv.gz", b"perturbation\tgene\tlabel\n", "named .gz, but is not gzipped"),
        ("t.tsv.gz", gzip.compress(b"perturbation\tgene\tlabel\n" * 99, mtime=0)[:-9], "cannot be read"),
        ("t.csv", b"perturbation|gene|label\n", r"has the columns perturbation\|gene\|label, not perturbation"),
        ("t.tsv", b"perturbation\tgene\tlabel\nA\t" + b"B" * 200_000 + b"\t1\n", "cannot be read"),
        ("t.tsv", b"perturbation\tgene\tlabel\nA\n", "line 2, has no gene"),
    ],
)
def test_a_damaged_table_is_one_line(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputUnusable, match=message):
        read_pairs(tmp_path / name, with_labels=True)


def test_a_gzipped_table_with_commas_and_a_gene_called_nan_is_read_as_text(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"gene,perturbation,label,more\nNA,NAN,1,x\nB,NAN,0,y\n"))
    found = read_pairs(path, with_labels=True)
    assert found.pairs == [("NAN", "NA"), ("NAN", "B")]
    assert found.labels.tolist() == [1.0, 0.0]


def draw(seed=0, n=400):
    rng = np.random.default_rng(seed)
    genes, labels = rng.integers(0, 12, n), (rng.random(n) < 0.3).astype(float)
    labels[genes == 3], labels[genes == 5] = 0.0, 1.0
    return genes, labels, rng.integers(0, 9, n) / 4.0


def test_the_area_of_each_gene_is_that_of_scikit_learn_ties_included():
    genes, labels, scores = draw()
    found = gene_aucs(genes, labels, scores)
    assert np.isnan(found[[3, 5]]).all()
    for gene in set(range(12)) - {3, 5}:
        inside = genes == gene
        assert found[gene] == pytest.approx(roc_auc_score(labels[inside], scores[inside]))
    assert mean_gene_auc(genes, labels, scores) == pytest.approx(np.nanmean(found))


def test_counts_are_as_good_as_repeated_pairs():
    genes, labels, scores = draw(1)
    counts = np.random.default_rng(2).integers(0, 4, len(genes))
    repeated = gene_aucs(*(np.repeat(each, counts) for each in (genes, labels, scores)))
    np.testing.assert_allclose(gene_aucs(genes, labels, scores, counts=counts.astype(float)), repeated)


def test_no_gene_of_both_labels_is_nan_and_no_warning():
    assert np.isnan(mean_gene_auc(np.array([0, 1]), np.array([0.0, 1.0]), np.array([0.5, 0.1])))
