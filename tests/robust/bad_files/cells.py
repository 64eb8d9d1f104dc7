"""Cell files with something wrong in them, each made by a small function: the inputs of tests/data/bad/cells.toml.

A maker takes an empty folder, writes one input into it and gives its path. The same maker always writes the same
values. Those of slots, files and paths are in cell_files.py, of 10x in ten_x.py.
"""

import warnings

import anndata
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

MAKERS = {}
N_CELLS = 24
GENES = [
    "CD3D", "CD3E", "CD3G", "CD247", "CD4", "CD7", "CD8A", "CD8B", "CD27", "CD28",
    "MS4A1", "CD37", "CD40", "CD40LG", "CD47", "CD53", "CD63", "CD33", "AIF1", "BLK",
    "BST1", "BST2", "C1QA", "C1QB", "CALM1", "CALM3", "CALR", "CAMK4", "CAPG", "CAPN1",
    "CAPN2", "CAT", "CCT6A", "CD2", "ACAA1", "ACADS", "ACOX1", "ACP5", "ADD3", "ADSL",
]  # fmt: skip

CELLS = [f"{'ACGT'[row % 4]}{'ACGT'[row // 4 % 4]}{'ACGT'[row // 16]}ACGTTGCAACGTT-1" for row in range(N_CELLS)]


def kind(maker):
    """Enter a maker under its name."""
    MAKERS[maker.__name__] = maker
    return maker


def counts():
    """Counts of two kinds of cells, of which each has its half of the genes."""
    rate = np.full((N_CELLS, len(GENES)), 1.5)
    rate[:12, :20] = rate[12:, 20:] = 6.0
    return np.random.default_rng(7).poisson(rate).astype(np.float32)


def cells(values=None, *, genes=None, names=None, stored=sp.csr_matrix):
    """Cells that nothing is wrong with, but for what is given."""
    values = counts() if values is None else values
    obs = pd.DataFrame(index=pd.Index(CELLS[: values.shape[0]] if names is None else names, dtype=object))
    var = pd.DataFrame(index=pd.Index(GENES[: values.shape[1]] if genes is None else genes, dtype=object))
    obs["label"] = ["T cell", "B cell"] * (len(obs) // 2) + ["T cell"] * (len(obs) % 2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
        return anndata.AnnData(stored(values), obs=obs, var=var)


def save(adata, folder, name="cells.h5ad"):
    """Write cells, as .h5ad or .zarr."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        adata.write_zarr(folder / name) if name.endswith(".zarr") else adata.write_h5ad(folder / name)
    return folder / name


def changed(folder, change, *, adata=None, name="cells.h5ad"):
    """Write cells and change the HDF5 file by hand, as no library would write it."""
    path = save(cells() if adata is None else adata, folder, name)
    with h5py.File(path, "r+") as file:
        change(file)
    return path


def replaced(file, place, values, **attributes):
    """Put other values into a dataset, its attributes kept."""
    kept = dict(file[place].attrs)
    del file[place]
    file[place] = values
    for key, value in (kept | attributes).items():
        file[place].attrs[key] = value


def written(folder, name, content=b""):
    """Write a file of these bytes."""
    (folder / name).write_bytes(content)
    return folder / name


# Values


@kind
def nan(folder):
    values = counts()
    values[3, 4] = np.nan
    return save(cells(values), folder)


@kind
def infinite(folder):
    values = counts()
    values[3, 4] = np.inf
    return save(cells(values), folder)


@kind
def beyond_float32(folder):
    values = counts().astype(np.float64)
    values[3, 4] = 1e300
    return save(cells(values), folder)


@kind
def negative(folder):
    values = counts()
    values[3, 4] = -1
    return save(cells(values), folder)


def log_normalized():
    values = counts()
    return np.log1p(values / values.sum(axis=1, keepdims=True) * 1e3)


def scaled_values():
    values = log_normalized()
    return (values - values.mean(axis=0)) / values.std(axis=0)


@kind
def scaled(folder):
    return save(cells(scaled_values(), stored=np.asarray), folder)


@kind
def scaled_with_raw(folder):
    adata = cells()
    adata.raw = adata
    adata.X = scaled_values()
    return save(adata, folder)


@kind
def log1p_in_the_layer_of_counts(folder):
    adata = cells(log_normalized())
    adata.layers["counts"] = sp.csr_matrix(log_normalized())
    return save(adata, folder)


@kind
def log1p(folder):
    return save(cells(log_normalized()), folder)


@kind
def good(folder):
    return save(cells(), folder)


@kind
def large_counts(folder):
    return save(cells(counts() * 100), folder)


@kind
def rpkm(folder):
    return save(cells(counts() * 40.7), folder)


@kind
def a_few_corrected_counts(folder):
    values = counts()
    values[::6, ::9] *= 0.75
    return save(cells(values), folder)


@kind
def zeros(folder):
    return save(cells(counts() * 0), folder)


@kind
def complex_values(folder):
    return save(cells(counts().astype(np.complex64), stored=np.asarray), folder)


@kind
def yes_or_no(folder):
    return save(cells(counts() > 3, stored=np.asarray), folder)


@kind
def same_cell_throughout(folder):
    return save(cells(np.tile(counts()[:1], (N_CELLS, 1))), folder)


@kind
def many_genes_that_do_not_vary(folder):
    values = np.tile(np.arange(2100, dtype=np.float32) % 5 + 1, (N_CELLS, 1))
    return save(cells(values, genes=[f"LOC{number}" for number in range(2100)]), folder)


# Shape


@kind
def no_cells(folder):
    return save(cells(counts()[:0]), folder)


@kind
def no_genes(folder):
    return save(cells(counts()[:, :0]), folder)


@kind
def one_cell(folder):
    return save(cells(counts()[:1]), folder)


@kind
def one_gene(folder):
    return save(cells(counts()[:, :1]), folder)


@kind
def genes_in_rows(folder):
    return save(cells().T, folder)


# Names


@kind
def repeated_genes(folder):
    return save(cells(genes=[*GENES[:38], "CD3D", "CD3D"]), folder)


@kind
def blank_genes(folder):
    return save(cells(genes=["", " ", *GENES[2:]]), folder)


@kind
def numbered_genes(folder):
    return save(cells(genes=[f"g{number}" for number in range(40)]), folder)


@kind
def symbols_in_a_column(folder):
    adata = cells(genes=[str(number) for number in range(40)])
    adata.var["feature_name"] = GENES
    return save(adata, folder)


@kind
def a_column_with_gaps(folder):
    adata = cells()
    adata.var["symbol"] = [None, *GENES[1:]]
    return save(adata, folder)


@kind
def versioned_ensembl(folder):
    known = ["ENSG00000000938", "ENSG00000002330", "ENSG00000002822", "ENSG00000002933"]
    ids = [*known, *(f"ENSG{number:011d}" for number in range(36))]
    return save(cells(genes=[f"{name}.{7 + row % 5}" for row, name in enumerate(ids)]), folder)


@kind
def mouse(folder):
    return save(cells(genes=[name.capitalize() for name in GENES]), folder)


@kind
def mouse_ensembl(folder):
    return save(cells(genes=[f"ENSMUSG{number:011d}" for number in range(40)]), folder)


@kind
def two_species(folder):
    return save(
        cells(genes=[f"GRCh38_{name}" for name in GENES[:20]] + [f"mm10___{name}" for name in GENES[20:]]), folder
    )


@kind
def lower_case(folder):
    return save(cells(genes=[name.lower() for name in GENES]), folder)


@kind
def dates(folder):
    return save(cells(genes=["9-Sep", "7-Sep", "2-Mar", *GENES[3:]]), folder)


@kind
def cyrillic(folder):
    look_alike = str.maketrans("ACEKMOPT", "\u0410\u0421\u0415\u041a\u041c\u041e\u0420\u0422")
    return save(cells(genes=[name.translate(look_alike) for name in GENES]), folder)


ROWS = counts().astype(int)


def table(separator=",", *, rows=None, header=None, corner="cell", names=CELLS):
    """Text of a table with a header and a first column of names."""
    rows = ROWS if rows is None else rows
    header = [corner, *GENES] if header is None else header
    lines = [separator.join(header)] if header else []
    lines += [separator.join([name, *map(str, row)]) for name, row in zip(names, rows, strict=True)]
    return "\n".join(lines) + "\n"


@kind
def csv_empty(folder):
    return written(folder, "cells.csv")


@kind
def csv_of_a_header(folder):
    return written(folder, "cells.csv", table().split("\n")[0].encode() + b"\n")


@kind
def csv_with_decimal_commas(folder):
    rows = [[f'"{value},5"' for value in row] for row in ROWS]
    return written(folder, "cells.csv", table(rows=rows).encode())


@kind
def csv_with_semicolons(folder):
    return written(folder, "cells.csv", table(";").encode())


@kind
def csv_ragged(folder):
    lines = table().splitlines()
    lines[4] += ",7,7"
    return written(folder, "cells.csv", "\n".join(lines).encode())


@kind
def csv_without_header(folder):
    return written(folder, "cells.csv", table(header=[]).encode())


@kind
def csv_with_a_title(folder):
    return written(folder, "cells.csv", b"Counts of 2021\n" + table().encode())


@kind
def csv_without_cell_names(folder):
    lines = [",".join(GENES), *(",".join(map(str, row)) for row in ROWS)]
    return written(folder, "cells.csv", "\n".join(lines).encode())


@kind
def csv_with_a_mark(folder):
    return written(folder, "cells.csv", table().encode("utf-8-sig"))


@kind
def csv_in_utf16(folder):
    return written(folder, "cells.csv", table().encode("utf-16"))


@kind
def csv_in_latin1(folder):
    names = ["zelle-é", *CELLS[1:]]
    return written(folder, "cells.csv", table(names=names).encode("latin-1"))


@kind
def csv_with_gaps(folder):
    rows = ROWS.astype(str).astype(object)
    rows[3, 4], rows[5, 6] = "", "NA"
    return written(folder, "cells.csv", table(rows=rows).encode())


@kind
def csv_with_genes_in_rows(folder):
    text = table(rows=ROWS.T, header=["gene", *CELLS], names=GENES)
    return written(folder, "cells.csv", text.encode())


@kind
def csv_with_repeated_genes(folder):
    return written(folder, "cells.csv", table(header=["cell", "CD3D", "CD3D", *GENES[2:]]).encode())


@kind
def csv_named_gz(folder):
    return written(folder, "cells.csv.gz", table().encode())
