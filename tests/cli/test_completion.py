"""What a shell is offered while a command line is typed."""

import anndata
import numpy as np
import pandas as pd
import pytest

from cellmodel.io.writers import write_cells
from genekb import BuildConfig, build, read_demo_table
from tests.support.in_process import call_here


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("completion")
    build(read_demo_table(), BuildConfig(name="demo", models=("hash-16",)), home=folder)
    obs = pd.DataFrame({"leiden": ["0", "1"], "donor": ["a", "b"]}, index=["c0", "c1"])
    cells = anndata.AnnData(np.ones((2, 3), np.float32), obs=obs)
    cells.write_h5ad(folder / "cells.h5ad")
    write_cells(cells, folder / "cells.zarr")
    return folder


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("cellmodel cluster {0}/cells.h5ad --home {0} --kb de", ["demo@1"]),
        ("genekb info --home {0} ", ["demo@1"]),
        ("cellmodel cluster {0}/cells.h5ad --home {0} --kb demo --encoder ha", ["hash-16"]),
        ("genekb push demo --home {0} --encoder ", ["hash-16"]),
        ("genekb build --model minil", ["minilm"]),
        ("genekb build --taxon zeb", ["zebrafish"]),
        ("cellmodel annotate {0}/cells.h5ad --cluster-key ", ["leiden", "donor"]),
        ("cellmodel eval {0}/cells.zarr --truth do", ["donor"]),
        ("cellmodel compare {0}/none.h5ad {0}/cells.h5ad --cluster-key-b le", ["leiden"]),
        ("cellmodel annotate {0}/none.h5ad --cluster-key ", []),
        ("cellmodel cluster {0}/cells.h5ad --kb none --encoder ", []),
    ],
)
def test_names_are_completed(line, offered, folder, capsys, monkeypatch):
    words = line.format(folder)
    command = words.split()[0]
    monkeypatch.setenv(f"_{command.upper()}_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    ended = call_here([command], capsys, monkeypatch)
    assert ended.code == 0
    assert ended.out.split() == offered
