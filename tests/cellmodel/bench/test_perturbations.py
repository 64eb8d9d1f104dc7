"""Scores of predicted effects, against scikit-learn's areas."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import cellmodel as cm
from cellmodel.core.errors import InputUnusable


@pytest.fixture
def truth(tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"p{p}", f"g{g}", int(rng.random() < 0.4)) for p in range(30) for g in range(8)]
    rows = [(p, g, 1 if g == "g3" else label) for p, g, label in rows]  # one gene has one label alone
    path = tmp_path / "truth.tsv"
    path.write_text("perturbation\tgene\tlabel\n" + "".join(f"{p}\t{g}\t{label}\n" for p, g, label in rows))
    return path, rows


def write(path, rows, scores):
    lines = (f"{p}\t{g}\t{score}\n" for (p, g, _), score in zip(rows, scores, strict=True))
    path.write_text("perturbation\tgene\tscore\n" + "".join(lines))
    return path


def test_the_score_is_the_mean_area_of_genes_that_have_both_labels(truth, tmp_path):
    path, rows = truth
    noise = np.random.default_rng(1).random(len(rows))
    labels = np.array([row[2] for row in rows])
    good, bad = write(tmp_path / "a.tsv", rows, labels + noise), write(tmp_path / "b.tsv", rows, noise)
    found = cm.bench.perturb_eval([good, bad], path, draws=50)
    genes = np.array([row[1] for row in rows])
    areas = [roc_auc_score(labels[genes == g], (labels + noise)[genes == g]) for g in set(genes) - {"g3"}]
    assert found[0].auc == pytest.approx(np.mean(areas))
    assert (found[0].name, found[0].n_genes, found[0].n_pairs, found[0].n_missing) == ("a.tsv", 7, 240, 0)
    assert found[0].low > found[1].high
    assert found[1].low < 0.5 < found[1].high
    assert cm.bench.perturb_eval([good, bad], path, draws=50) == found


def test_pairs_without_a_score_count_as_average_and_are_counted(truth, tmp_path):
    path, rows = truth
    part = write(tmp_path / "part.tsv", rows[: len(rows) // 2], range(len(rows) // 2))
    (found,) = cm.bench.perturb_eval([part], path, draws=2)
    assert found.n_missing == len(rows) - len(rows) // 2


def test_predictions_of_other_pairs_and_truth_of_one_label_are_refused(truth, tmp_path):
    path, rows = truth
    other = write(tmp_path / "o.tsv", [("x", "y", 0)], [0.5])
    with pytest.raises(InputUnusable, match=r"has none of the 240 pairs of truth\.tsv"):
        cm.bench.perturb_eval([other], path)
    only = [row for row in rows if row[1] == "g3"]
    path.write_text("perturbation\tgene\tlabel\n" + "".join("\t".join(map(str, row)) + "\n" for row in only))
    with pytest.raises(InputUnusable, match=r"no gene of truth\.tsv has both labels"):
        cm.bench.perturb_eval([write(tmp_path / "p.tsv", only, range(len(only)))], path)
    words = write(tmp_path / "w.tsv", only, ["high"] * len(only))
    with pytest.raises(InputUnusable, match="a score that is no number"):
        cm.bench.perturb_eval([words], path)
