"""`genekb compare --tasks` as its users run it, on the demo store."""

import csv
import shutil

import pytest

import genekb
from tests.support.in_process import call, call_json

RNG_SPLIT = ("fold1", "fold2", "fold3", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, demo_store):
    """The demo store, and a task that the name of a gene gives away: whether it is a receptor."""
    folder = tmp_path_factory.mktemp("tasks")
    shutil.copytree(demo_store("wcp-64").folder.parents[2], folder / "home", symlinks=True)
    genes = genekb.open("demo", home=folder / "home").table("genes").to_pylist()
    named = [gene for gene in genes if gene["name"]]
    rows = [
        ("receptor", gene["symbol"], int("receptor" in gene["name"]), RNG_SPLIT[number % 4])
        for number, gene in enumerate(named)
    ]
    rows.append(("receptor", "NOSUCHGENE", 0, "test"))
    (folder / "tasks").mkdir()
    lines = ["term\tgene\tlabel\tsplit", *("\t".join(map(str, row)) for row in rows)]
    (folder / "tasks" / "kinds.tsv").write_text("\n".join(lines) + "\n")
    (folder / "tasks" / "published.tsv").write_text("embedding\tkinds_all_genes\nOTHER\t0.75\n")
    return folder


def on_tasks(folder, *args):
    return ("compare", "--kb", "demo", "--home", folder / "home", "--tasks", folder / "tasks", *args)


def test_figures_stand_beside_their_controls_in_table_and_json(folder):
    table = folder / "out.tsv"
    content = call_json("genekb", *on_tasks(folder, "-o", table))
    auroc = {row["knowledge"]: row["auroc"] for row in content["rows"]}
    assert list(auroc) == ["real", "shuffled", "name", "symbol", "published"]
    assert auroc["real"] > 0.8 > auroc["shuffled"]
    assert content["unknown"] == {"kinds": ["NOSUCHGENE"]}
    with table.open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [(row["encoder"], row["knowledge"]) for row in rows] == [
        (row["encoder"], row["knowledge"]) for row in content["rows"]
    ]
    assert float(rows[0]["auroc"]) == pytest.approx(auroc["real"], abs=1e-5)


def test_the_lines_for_people_report_what_was_left_out(folder):
    code, out, err = call("genekb", *on_tasks(folder, "--knowledge", "real,shuffled", "--scored-on", "inner"))
    assert code == 0
    assert "inner folds, test left alone" in out
    assert "published" not in out
    assert "kinds: 1 name not in demo@1" in err


def test_a_second_store_has_rows_of_its_own(folder):
    call_json("genekb", "build", "--model", "wcp-32", "--name", "older@0", "--home", folder / "home")
    content = call_json("genekb", *on_tasks(folder, "--kb-b", "older@0", "--knowledge", "real"))
    stores = [row["store_id"].partition(":")[0] for row in content["rows"]]
    assert stores[:2] == ["demo@1", "older@0"]


WRONG = {
    ("--knowledge", "real,texts"): (2, "--knowledge is real, shuffled"),
    ("--vocabulary", "name_family"): (2, "are for a comparison without --tasks"),
    ("--kb-b", "no-such-store"): (4, "no-such-store"),
    ("--encoder", "no-such-encoder"): (4, "no encoder 'no-such-encoder'"),
}


@pytest.mark.parametrize("option", WRONG, ids=lambda option: option[0])
def test_a_wrong_choice_is_one_line(folder, option):
    expected, message = WRONG[option]
    code, _, err = call("genekb", *on_tasks(folder, *option))
    assert code == expected
    assert message in err


def test_options_of_tasks_need_tasks(folder):
    code, _, err = call("genekb", "compare", "--kb", "demo", "--home", folder / "home", "--knowledge", "real")
    assert code == 2
    assert "--knowledge is for tasks; give --tasks" in err


def test_a_folder_without_tasks_says_what_is_needed(folder, tmp_path):
    code, _, err = call("genekb", "compare", "--kb", "demo", "--home", folder / "home", "--tasks", tmp_path)
    assert code == 3
    assert "has no table of a task; it needs NAME.tsv with columns term, gene_id or gene, label" in err
