"""Names of gene sets: made sets are named, random ones are not, and of mixed ones the part with a theme is listed."""

import csv
from itertools import combinations

import numpy as np
import pytest

import genekb
from genekb.builder.plan import BuildConfig, build
from genekb.builder.update import import_vectors
from genekb.core.errors import NotAvailable, SourceUnusable
from genekb.core.words import split_words
from genekb.encoders.imported.vectors import read_foreign
from genekb.query.gene_sets import SetName
from genekb.query.gene_theme import coherence, draw_sets, make_universe, scale_names, share_reaching
from genekb.query.name_set import NameSetConfig, name_sets, reading_encoder, write_names
from tests.support.in_process import call, call_json

TOPICS = {
    "mitotic spindle assembly": "Assembles the mitotic spindle and moves chromosomes in mitosis.",
    "bile acid synthesis": "Oxidises cholesterol in the synthesis of bile acids of the liver.",
    "synaptic vesicle release": "Docks the synaptic vesicle and triggers its release in neurons.",
    "collagen fibril": "Crosslinks the collagen fibril of cartilage and bone matrix.",
}
FILLER = "kinase membrane nucleus secreted factor channel zinc finger domain repeat motor transport ligase binding"
NAMES = tuple(SetName(name=topic, name_id=f"T:{number}") for number, topic in enumerate(TOPICS))
N_OF_TOPIC, N_OTHER = 12, 240


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A store of made genes: twelve of each topic, and others whose texts are random words."""
    rng, words = np.random.default_rng(0), FILLER.split()
    folder = tmp_path_factory.mktemp("made")
    rows = [(f"{topic[:4].upper()}{number}", text) for topic, text in TOPICS.items() for number in range(N_OF_TOPIC)]
    rows += [(f"OTH{number}", "") for number in range(N_OTHER)]
    with (folder / "genes.tsv").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t")
        writer.writerow(["gene_id", "symbol", "name", "summary"])
        for gene_id, (symbol, text) in enumerate(rows, start=1):
            extra = " ".join(rng.choice(words, 8))
            writer.writerow([gene_id, symbol, f"protein {' '.join(rng.choice(words, 2))}", f"{text} It has {extra}."])
    source = genekb.read_source(folder / "genes.tsv", taxa=["human"])
    build(source, BuildConfig(name="made", models=("wcp-64", "hash-16")), home=folder)
    return folder


@pytest.fixture(scope="module")
def kb(home):
    return genekb.open("made", home=home)


def rows_of(path, delimiter="\t"):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter=delimiter))


def topic_genes(topic, n=6):
    return [f"{topic[:4].upper()}{number}" for number in range(n)]


def others(*numbers):
    return [f"OTH{number}" for number in numbers]


def test_a_set_with_a_theme_gets_its_name_genes_and_sentences(kb):
    sets = {topic: topic_genes(topic) for topic in TOPICS}
    found = name_sets(kb, sets, vocabulary=NAMES)
    assert [one.name for one in found.sets] == list(TOPICS)
    for one in found.sets:
        assert one.p_value == pytest.approx(1 / 1001)
        assert {gene.name for gene in one.theme} == set(sets[one.set_name])
        assert all(gene.sentence == TOPICS[one.name] for gene in one.theme)
        assert one.names[0].name_id == f"T:{list(TOPICS).index(one.name)}"
        assert [name.z for name in one.names] == sorted((name.z for name in one.names), reverse=True)


def test_random_sets_stay_unnamed(kb):
    rng = np.random.default_rng(1)
    symbols = kb.table("genes")["symbol"].to_pylist()
    sets = {str(number): rng.choice(symbols, 5, replace=False).tolist() for number in range(200)}
    found = name_sets(kb, sets, vocabulary=NAMES).sets
    assert sum(one.p_value <= 0.05 for one in found) <= 20
    assert sum(bool(one.name) for one in found) <= 10
    assert all(one.reason and not one.theme and len(one.others) == 5 for one in found if not one.name)


@pytest.mark.parametrize("topic", TOPICS)
def test_of_a_set_with_a_part_that_has_a_theme_this_part_is_listed(kb, topic):
    mixed = [*topic_genes(topic), *others(3, 50, 99, 120, 200, 231)]
    one = name_sets(kb, {"mixed": mixed}, vocabulary=NAMES).sets[0]
    assert one.name == topic
    listed = {gene.name for gene in one.theme}
    assert set(topic_genes(topic)) <= listed
    assert len(listed - set(topic_genes(topic))) <= 1
    assert listed | set(one.others) == set(mixed)


def test_a_theme_that_no_name_fits_is_not_named(kb):
    wrong = tuple(name for name in NAMES if name.name != "collagen fibril")
    one = name_sets(kb, {"a": topic_genes("collagen fibril")}, vocabulary=wrong).sets[0]
    assert (one.name, one.reason) == ("", "a common theme, and no name of the vocabulary that fits it")
    assert one.p_value < 0.01
    none = name_sets(kb, {"a": topic_genes("collagen fibril")}, vocabulary=[SetName(name="qqq zzz")]).sets[0]
    assert none.name == ""


def test_without_a_vocabulary_names_are_phrases_of_the_texts(kb):
    found = name_sets(kb, {"a": topic_genes("bile acid synthesis")})
    assert found.vocabulary == "phrases of the texts of each set"
    assert set(found.sets[0].name.split()) <= set(split_words(TOPICS["bile acid synthesis"]))
    assert found.sets[0].name_p < 0.05


def test_genes_that_cannot_count_are_listed_and_few_genes_are_not_named(kb):
    universe = [*topic_genes("bile acid synthesis", 8), *others(*range(100))]
    genes = ["BILE0", "1", "BILE1", "BILE11", "NOPE", str(N_OF_TOPIC + 3), "BILE1"]
    one = name_sets(kb, {"few": genes}, vocabulary=NAMES, universe=universe).sets[0]
    assert (one.unknown, one.outside) == (("NOPE",), ("1", "BILE11"))
    assert {gene.name for gene in one.theme} | {*one.others} == {"BILE0", "BILE1", str(N_OF_TOPIC + 3)}
    few = name_sets(kb, {"few": ["BILE0", "BILE1", "13"]}, vocabulary=NAMES).sets[0]
    assert (few.name, few.reason, few.p_value) == ("", "2 genes with a text, 3 are needed", None)


def test_sets_without_a_gene_are_unnamed_and_no_fault(kb):
    found = name_sets(kb, {"a": [], "b": np.array([], dtype=np.int64)}, vocabulary=NAMES)
    assert [one.reason for one in found.sets] == ["0 genes with a text, 3 are needed"] * 2


def test_arguments_that_cannot_be_used(kb):
    with pytest.raises(SourceUnusable, match=r"none of 2 gene names .X1, X2. is known"):
        name_sets(kb, {"a": ["X1", "X2"]})
    with pytest.raises(SourceUnusable, match=r"6 genes of the universe have a text in .*, 20 are needed"):
        name_sets(kb, {"a": topic_genes("bile acid synthesis")}, universe=topic_genes("bile acid synthesis"))
    with pytest.raises(ValueError, match="1 values of expression for no universe"):
        name_sets(kb, {"a": ["BILE0"]}, expression=[1.0])
    with pytest.raises(ValueError, match="not finite"):
        name_sets(kb, {"a": ["BILE0"]}, universe=["BILE0"], expression=[float("nan")])
    with pytest.raises(NotAvailable, match="no encoder 'other'"):
        name_sets(kb, {"a": ["BILE0"]}, encoder="other")
    for wrong in ({"max_p": 0.0}, {"n_random": 1}, {"n_names": 0}, {"seed": -1}):
        with pytest.raises(ValueError, match=r"needed|must lie|must be >= 0"):
            NameSetConfig(**wrong)


def test_vectors_that_were_imported_read_no_names(kb, tmp_path):
    rows = [f"{gene} {gene % 7} 1" for gene in kb.table("genes")["gene_id"].to_pylist()]
    (tmp_path / "made.vec").write_text("\n".join([f"{len(rows)} 2", *rows]))
    foreign = read_foreign(tmp_path / "made.vec", keys="gene_id")
    folder = import_vectors(kb, foreign, name="made", home=tmp_path, keys="gene_id", min_resolved=0.5).build.folder
    with_both = genekb.open(folder)
    with pytest.raises(NotAvailable):
        name_sets(with_both, {"a": topic_genes("collagen fibril")}, vocabulary=NAMES, encoder="made")
    assert reading_encoder(with_both).startswith("wcp-64")


def test_the_same_arguments_give_the_same_result_whatever_else_is_named(kb):
    sets = {"a": topic_genes("collagen fibril"), "b": others(1, 2, 3, 4, 5, 6), "c": others(7, 8, 9)}
    whole = name_sets(kb, sets, vocabulary=NAMES)
    assert name_sets(kb, sets, vocabulary=NAMES) == whole
    assert name_sets(kb, {"b": sets["b"]}, vocabulary=NAMES).sets[0] == whole.sets[1]
    reversed_genes = name_sets(kb, {"a": sets["a"][::-1]}, vocabulary=NAMES).sets[0]
    assert (reversed_genes.p_value, reversed_genes.name) == (whole.sets[0].p_value, whole.sets[0].name)


def test_shuffled_texts_name_nothing_that_is_true(kb):
    sets = {topic: topic_genes(topic) for topic in TOPICS}
    found = name_sets(kb, sets, vocabulary=NAMES, knowledge="shuffled")
    assert sum(one.name == one.set_name for one in found.sets) <= 1
    named = name_sets(kb, sets, vocabulary=NAMES, knowledge="name")
    assert sum(one.name == one.set_name for one in named.sets) <= 1


def test_the_p_value_is_that_of_pairs_counted_one_by_one():
    vectors = np.random.default_rng(2).standard_normal((40, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    universe = make_universe(vectors, seed=0)
    rows = np.array([1, 5, 8, 13])
    pairs = [float(universe.centered[a] @ universe.centered[b]) for a, b in combinations(rows, 2)]
    assert coherence(universe.centered[rows].sum(axis=0), n=4) == pytest.approx(np.mean(pairs), abs=1e-6)
    chance = draw_sets(universe, (4,), n_random=3000, seed=0)[0]
    everything = [
        np.mean([universe.centered[a] @ universe.centered[b] for a, b in combinations(four, 2)])
        for four in combinations(range(12), 4)
    ]
    assert chance.mean() == pytest.approx(0, abs=0.03)
    assert np.std(chance) == pytest.approx(np.std(everything), rel=0.25)
    assert share_reaching(-2.0, chance) == 1
    assert share_reaching(2.0, chance) == pytest.approx(1 / 3001)


def test_z_is_standard_over_random_sets():
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((60, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    universe = make_universe(vectors, seed=0)
    scale = scale_names(universe, vectors[:3])
    means = np.array([vectors[rng.choice(60, 20, replace=False)].mean(axis=0) for _ in range(4000)])
    z = scale.z(means, n=20, of=60)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(z.std(axis=0), 1 / 1.05, atol=0.04)  # deviations are raised by a twentieth


def test_random_sets_have_as_many_genes_of_each_stratum(kb):
    universe = make_universe(np.eye(30, dtype=np.float32), strata=np.repeat([0, 1, 2], 10), seed=0)
    means = draw_sets(universe, (1, 0, 3), n_random=5, seed=0)[1]
    np.testing.assert_allclose(means.reshape(5, 3, 10).sum(axis=2), [[0.25, 0, 0.75]] * 5, atol=1e-6)
    genes = [*topic_genes("collagen fibril"), *others(*range(100))]
    expression = [100.0] * 6 + list(range(100))
    one = name_sets(kb, {"a": genes[:6]}, vocabulary=NAMES, universe=genes, expression=expression).sets[0]
    assert one.name == "collagen fibril"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "bile.txt").write_text("\n".join([*topic_genes("bile acid synthesis"), "NOPE"]))
    (tmp_path / "names.tsv").write_text("\n".join(["id\tname", *(f"{one.name_id}\t{one.name}" for one in NAMES)]))
    return tmp_path


def test_the_command_prints_and_writes_names(files, home):
    command = ["name-set", files / "bile.txt", "--kb", "made", "--home", home, "--vocabulary", files / "names.tsv"]
    code, out, err = call("genekb", *command, "-o", files / "out.tsv")
    assert code == 0, err
    assert out.startswith("bile: bile acid synthesis (p 0.001)\n")
    assert "Oxidises cholesterol" in out
    assert "not in made" in err
    assert "NOPE" in err
    rows = rows_of(files / "out.tsv")
    assert [(row["set"], row["name"], row["name_id"], row["n_theme"], row["unknown"]) for row in rows] == [
        ("bile", "bile acid synthesis", "T:1", "6", "NOPE")
    ]
    assert call("genekb", *command, "-o", files / "out.tsv")[0] != 0
    found = call_json("genekb", *command)
    assert found["sets"][0]["names"][0]["name"] == "bile acid synthesis"
    assert (found["n_names"], found["vocabulary"], found["knowledge"]) == (4, "given", "real")


def test_the_command_names_many_sets_and_says_what_is_wrong(files, home):
    sets = [f"{topic}\t\t" + "\t".join(topic_genes(topic)) for topic in TOPICS]
    (files / "many.gmt").write_text("\n".join([*sets, "none\t\t" + "\t".join(others(5, 25, 45, 65, 85))]))
    (files / "all.txt").write_text("\n".join([*others(*range(200)), *(g for t in TOPICS for g in topic_genes(t))]))
    command = ["name-set", files / "many.gmt", "--kb", "made", "--home", home]
    code, out, err = call(
        "genekb", *command, "--vocabulary", files / "names.tsv", "--universe", files / "all.txt", "--random-sets", 200
    )
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == 6
    assert all(line.count(topic) == 2 for line, topic in zip(lines[1:5], TOPICS, strict=True))
    assert "(no common theme)" in lines[5]
    code, _, err = call("genekb", *command, "--max-p", 2)
    assert code == 2
    assert "max_p must lie in (0, 1]" in err
    (files / "wrong.tsv").write_text("gene\nCD3D\n")
    code, _, err = call("genekb", "name-set", files / "wrong.tsv", "--kb", "made", "--home", home)
    assert code != 0
    assert "taken are .gmt; a table with the columns set (or cluster) and gene" in err


def test_results_can_be_written_as_csv(kb, tmp_path):
    found = name_sets(kb, {"a": topic_genes("collagen fibril"), "=b": others(1, 2, 3)}, vocabulary=NAMES)
    write_names(found, tmp_path / "out.csv")
    rows = rows_of(tmp_path / "out.csv", ",")
    assert [row["set"] for row in rows] == ["a", "'=b"]
    assert rows[0]["theme"].split() == [gene.name for gene in found.sets[0].theme]
