"""Check what `cellmodel export` writes with the programs that read it, installed in environments of their own.

python -m benchmarks.lib.check_exports named.h5ad --schema ENV/bin/cellxgene-schema

``named.h5ad``: human counts whose clusters `cellmodel annotate` named. Of CELLxGENE's fields the other ones are filled
with values for blood, the genes with the validator's own identifiers; then every term of the package's tables is tried
in place of those of the file.
"""

import argparse
import csv
import gzip
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import scipy.sparse as sp

import cellmodel as cm
from cellmodel.annotate.cell_types import read_cell_types
from cellmodel.annotate.levels import read_cell_groups

TERMS = "cell_type_ontology_term_id"
FILLED = {
    "assay_ontology_term_id": "EFO:0009922",
    "development_stage_ontology_term_id": "unknown",
    "disease_ontology_term_id": "PATO:0000461",
    "donor_id": "one",
    "self_reported_ethnicity_ontology_term_id": "unknown",
    "sex_ontology_term_id": "unknown",
    "suspension_type": "cell",
    "tissue_ontology_term_id": "UBERON:0000178",
    "tissue_type": "tissue",
}


def filled(adata: anndata.AnnData, schema: Path) -> anndata.AnnData:
    """Fill the fields of the schema that are the user's."""
    genes = next(schema.parents[1].rglob("gencode_files/genes_homo_sapiens.csv.gz"))
    with gzip.open(genes, "rt") as file:
        ids = {row[1]: row[0] for row in csv.reader(file)}
    adata = adata[:, [name for name in adata.var_names if name in ids]].copy()
    adata.var = pd.DataFrame({"feature_is_filtered": False}, index=[ids[name] for name in adata.var_names])
    adata = adata[:, ~adata.var_names.duplicated()].copy()
    adata.X = sp.csr_matrix(adata.X, dtype=np.float32)
    adata.raw = anndata.AnnData(adata.X.copy(), obs=adata.obs[[]], var=adata.var[[]])
    adata.X = adata.X.log1p()
    adata.obs = adata.obs.drop(columns="cell_type", errors="ignore").assign(is_primary_data=True)
    for name, value in FILLED.items():
        adata.obs[name] = pd.Categorical([value] * adata.n_obs)
    adata.uns |= {"title": "check", "organism_ontology_term_id": "NCBITaxon:9606"}
    return adata


def is_valid(adata: anndata.AnnData, schema: Path) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cells.h5ad"
        adata.write_h5ad(path)
        return subprocess.run([schema, "validate", path], check=False).returncode == 0


def check_terms(adata: anndata.AnnData, schema: Path) -> dict[str, object]:
    """Validate the terms of the file, and all of the tables."""
    cm.tl.cell_type_terms(adata, overwrite=True)
    named = filled(adata, schema)
    own = is_valid(named, schema)
    terms = sorted({one.ontology_id for one in (*read_cell_groups(), *read_cell_types())} - {""})
    named.obs[TERMS] = pd.Categorical([terms[row % len(terms)] for row in range(named.n_obs)])
    return {"terms of the file": own, f"{len(terms)} terms of the tables": is_valid(named, schema)}


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cells", type=Path)
    parser.add_argument("--schema", type=Path, required=True, help="cellxgene-schema")
    given = parser.parse_args(arguments)
    found = check_terms(anndata.read_h5ad(given.cells), given.schema.absolute())
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
