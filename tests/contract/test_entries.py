"""The lines of the pages for users of other tools run as they stand, on the demo's cells and store."""

import re
import shutil
from pathlib import Path

import anndata
import duckdb
import pytest

import genekb
from tests.support.demo import demo_cells
from tests.support.processes import done, has_in_r, shell_environment

PAGES = sorted((Path(__file__).parents[2] / "docs" / "from").glob("*.md"))
QUICK = {"genept", "sql"}
SEURAT = """library(Seurat)
values <- as.matrix(read.csv("values.csv", row.names = 1))
seu <- NormalizeData(CreateSeuratObject(as.sparse(t(expm1(values)))), verbose = FALSE)
Idents(seu) <- read.csv("clusters.csv")$bulk_labels
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the pages begin with: cells, tables of pairs, names of genes, and a store `human`."""
    folder = tmp_path_factory.mktemp("entries")
    genekb.build(name="human", model="wcp-32", home=folder / "home")
    demo_cells().write_h5ad(folder / "cells.h5ad")
    symbols = genekb.open("human", home=folder / "home").table("genes")["symbol"].to_pylist()
    pairs = [f"{one}\t{gene}" for one in symbols[:30] for gene in symbols[100:120]]
    labels = [f"{pair}\t{number % 3 // 2}" for number, pair in enumerate(pairs)]
    (folder / "train.tsv").write_text("\n".join(["perturbation\tgene\tlabel", *labels]))
    (folder / "query.tsv").write_text(
        "\n".join(["perturbation\tgene", *(f"{symbols[40]}\t{gene}" for gene in symbols[100:110])])
    )
    (folder / "perturbed.txt").write_text("IRF1\nCD3D\nLYZ\nCD79A\n")
    return folder


def run_r(blocks, folder):
    """All blocks as one script, in which those for the shell are calls."""
    if not has_in_r("Seurat"):
        pytest.skip("needs R with Seurat: apt install r-cran-seurat")
    cells = anndata.read_h5ad(folder / "cells.h5ad")
    cells = cells[cells.obs["bulk_labels"].isin(["CD19+ B", "CD14+ Monocyte", "CD56+ NK"])]
    cells.to_df().to_csv(folder / "values.csv")
    cells.obs["bulk_labels"].to_csv(folder / "clusters.csv")
    lines = [
        code if language == "r" else f"stopifnot(system('env -u LD_LIBRARY_PATH {code.strip()}') == 0)\n"
        for language, code in blocks
    ]
    (folder / "page.R").write_text(SEURAT + "".join(lines))
    done(["Rscript", "page.R"], folder)


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.stem, marks=[] if page.stem in QUICK else pytest.mark.slow) for page in PAGES]
)
@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # of scanpy, by matplotlib
def test_the_lines_of_a_page_run(page, folder, monkeypatch, request):
    if "my-model" in page.read_text():
        shutil.copytree(request.getfixturevalue("tiny_model"), folder / "my-model")
    monkeypatch.chdir(folder)
    for name, text in (shell_environment(folder) | {"MPLBACKEND": "agg"}).items():
        monkeypatch.setenv(name, text)
    names = {}
    blocks = re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL)
    assert blocks
    if "r" in dict(blocks):
        run_r(blocks, folder)
        return
    run = {
        "bash": lambda code: done(["bash", "-euc", code], folder),
        "python": lambda code: exec(code, names),
        "sql": lambda code: duckdb.sql(code).fetchall(),
    }
    for language, code in blocks:
        run[language](code)
