"""Files and folders of Cell Ranger with something wrong in them; see tests/robust/bad_files/cells.py."""

import gzip

import h5py
import numpy as np
import scipy.sparse as sp
from scipy.io import mmwrite

from tests.robust.bad_files.cells import CELLS, GENES, N_CELLS, cells, counts, kind, save

ROWS = counts().astype(int)


def ten_x(folder, *, version=3, values=None, genes=GENES, kinds=None, names=CELLS):
    """Folder with the three files, unzipped."""
    path = folder / "cells"
    path.mkdir()
    values = ROWS if values is None else values
    mmwrite(path / "matrix.mtx", sp.coo_matrix(values.T.astype(np.int32)))
    kinds = ["Gene Expression"] * len(genes) if kinds is None else kinds
    rows = [f"ENSG{row:011d}\t{name}" for row, name in enumerate(genes)]
    if version == 3:
        rows = [f"{row}\t{kind}" for row, kind in zip(rows, kinds, strict=True)]
    (path / ("features.tsv" if version == 3 else "genes.tsv")).write_text("\n".join(rows) + "\n")
    (path / "barcodes.tsv").write_text("\n".join(names) + "\n")
    return path


@kind
def mtx_of_cell_ranger_2(folder):
    return ten_x(folder, version=2)


@kind
def mtx_of_genes_and_antibodies(folder):
    return ten_x(folder, kinds=["Gene Expression"] * 36 + ["Antibody Capture"] * 4)


@kind
def mtx_with_a_header_in_its_lists(folder):
    return ten_x(folder, names=["barcode", *CELLS])


@kind
def mtx_with_cells_in_rows(folder):
    return ten_x(folder, values=ROWS.T)


@kind
def mtx_without_barcodes(folder):
    path = ten_x(folder)
    (path / "barcodes.tsv").unlink()
    return path


@kind
def mtx_without_matrix(folder):
    path = ten_x(folder)
    (path / "matrix.mtx").unlink()
    return path


@kind
def mtx_of_two_samples(folder):
    path = ten_x(folder)
    for name in ("matrix.mtx", "barcodes.tsv", "features.tsv"):
        (path / name).rename(path / f"GSM1_{name}")
    (path / "GSM2_matrix.mtx").touch()
    return path


@kind
def mtx_huge(folder):
    path = ten_x(folder)
    (path / "matrix.mtx").write_text(
        "%%MatrixMarket matrix coordinate integer general\n1000000000 1000000000 1\n1 1 5\n"
    )
    return path


@kind
def mtx_of_many_entries(folder):
    path = ten_x(folder)
    (path / "matrix.mtx").write_text(
        f"%%MatrixMarket matrix coordinate integer general\n{len(GENES)} {N_CELLS} 900000000000\n1 1 5\n"
    )
    return path


@kind
def mtx_huge_array(folder):
    path = ten_x(folder)
    (path / "matrix.mtx").write_text("%%MatrixMarket matrix array integer general\n1000000000 1000000000\n5\n")
    return path


@kind
def mtx_of_words(folder):
    path = ten_x(folder)
    (path / "matrix.mtx").write_text("gene,cell,count\n1,1,5\n")
    return path


@kind
def mtx_gz_cut_off(folder):
    path = ten_x(folder)
    content = gzip.compress((path / "matrix.mtx").read_bytes(), mtime=0)
    (path / "matrix.mtx").unlink()
    (path / "matrix.mtx.gz").write_bytes(content[: len(content) // 2])
    return path


@kind
def mtx_of_empty_lists(folder):
    path = ten_x(folder)
    for name in ("barcodes.tsv", "features.tsv"):
        (path / name).write_text("")
    return path


@kind
def mtx_in_latin1(folder):
    path = ten_x(folder)
    (path / "barcodes.tsv").write_bytes("\n".join(["zelle-é", *CELLS[1:]]).encode("latin-1"))
    return path


def ten_x_h5(folder, change=None, *, kinds=None):
    """File of Cell Ranger 3, and what is then done to it."""
    matrix = sp.csr_matrix(ROWS.astype(np.int32))
    with h5py.File(folder / "cells.h5", "w") as file:
        group = file.create_group("matrix")
        for key in ("data", "indices", "indptr"):
            group[key] = getattr(matrix, key)
        group["shape"] = np.array([len(GENES), N_CELLS])
        group["barcodes"] = np.array(CELLS, dtype="S")
        features = {
            "id": [f"ENSG{row:011d}" for row in range(len(GENES))],
            "name": GENES,
            "feature_type": kinds or ["Gene Expression"] * len(GENES),
        }
        for key, column in features.items():
            group[f"features/{key}"] = np.array(column, dtype="S")
        if change is not None:
            change(file)
    return folder / "cells.h5"


@kind
def h5_of_antibodies(folder):
    return ten_x_h5(folder, kinds=["Antibody Capture"] * 40)


@kind
def h5_without_matrix(folder):
    return ten_x_h5(folder, lambda file: file.__delitem__("matrix"))


@kind
def h5_of_two_genomes(folder):
    return ten_x_h5(folder, lambda file: file.copy("matrix", "mm10"))


@kind
def h5_with_fewer_barcodes(folder):
    def change(file):
        del file["matrix/barcodes"]
        file["matrix/barcodes"] = np.array(CELLS[:20], dtype="S")

    return ten_x_h5(folder, change)


@kind
def h5_huge(folder):
    def change(file):
        del file["matrix/data"]
        file["matrix"].create_dataset("data", shape=(10**13,), dtype="i4", chunks=(1000,))

    return ten_x_h5(folder, change)


@kind
def h5_huge_shape(folder):
    return ten_x_h5(folder, lambda file: file["matrix/shape"].__setitem__(slice(None), [10**12, 10**12]))


@kind
def h5ad_named_h5(folder):
    return save(cells(), folder).rename(folder / "cells.h5")
