"""Antibody names and identifiers of a user's table: which genes they are of, and what is no antibody's."""

import pyarrow as pa
import pytest

from genekb import schema
from genekb.core.errors import SourceUnusable
from genekb.genes.resolve import resolve_names

ROWS = [
    *(("CD3D", 915, "symbol"), ("CD3E", 916, "symbol"), ("CD3G", 917, "symbol"), ("PTPRC", 5788, "symbol")),
    *(("ITGAX", 3687, "symbol"), ("CD11C", 3687, "alias"), ("CD4", 920, "symbol"), ("PDCD1", 5133, "symbol")),
    *(("CD279", 5133, "alias"), ("PD-1", 5133, "alias"), ("PD-1", 6139, "alias"), ("NOTCH1", 4851, "symbol")),
    *(("HLA-DRA", 3122, "symbol"), ("HLA-DRB1", 3123, "symbol"), ("ITGAL", 3683, "symbol"), ("ITGB2", 3689, "symbol")),
    *(("TRAC", 28755, "symbol"), ("TRBC1", 28639, "symbol"), ("CD158B", 1, "alias"), ("CD158B", 2, "alias")),
]
MOUSE = [("Cd4", 12504, "symbol"), ("Cd11b", 16409, "alias"), ("H2-Aa", 14960, "symbol"), ("H2-Ab1", 14961, "symbol")]


def resolve(names, rows=ROWS, *, use_antibodies=True):
    table = pa.Table.from_pylist([dict(zip(schema.NAMES.names, row, strict=True)) for row in rows], schema.NAMES)
    found = resolve_names(names, name_table=table, gene_ids=table["gene_id"], use_antibodies=use_antibodies)
    genes = [found.candidates.get(row, (gene,) if gene else ()) for row, gene in enumerate(found.gene_ids.tolist())]
    return list(zip(found.status.tolist(), genes, strict=True))


@pytest.mark.parametrize(
    ("name", "status", "genes"),
    [
        *((name, "complex", (915, 916, 917)) for name in ("CD3", "CD3_TotalSeqB", "A0034-CD3", "Hu.CD3_UCHT1")),
        *((name, "protein", (5788,)) for name in ("CD45RA", "CD45RO_TotalC", "CD45R/B220", "HuMs.CD45R_B220")),
        *((name, "protein", (920,)) for name in ("anti-human CD4", "ADT_CD4", "C0072_anti-human_CD4_RPA-T4")),
        ("CD4", "symbol", (920,)),
        ("CD11c", "protein", (3687,)),
        *((name, "protein", (5133,)) for name in ("PD-1", "CD279_(PD-1)", "CD999 (PD-1)")),
        ("CD3:UCHT1|CD3E|AHS0231|pAbO", "protein", (916,)),
        *((name, "complex", (3122, 3123)) for name in ("HLA-DR", "HLA_DR", "Hu.HLA.DR")),
        *((name, "complex", (28639, 28755)) for name in ("TCRa/b", "TCR\u03b1\u03b2", "TCR_a_b", "Hu.TCR.AB")),
        ("CD11a/CD18", "complex", (3683, 3689)),
        ("adt_Notch_1", "protein", (4851,)),
        ("CD158b_ADT", "ambiguous", (1, 2)),
        *((name, "unknown", ()) for name in ("CD3E_intron", "PTPRC_unspliced", "Notch1", "Cd4", "ab_x", "CD999", "")),
        ("Mouse_IgG1_k_isotype_Ctrl", "unknown", ()),
    ],
)
def test_an_antibody_is_of_the_genes_of_its_antigen(name, status, genes):
    assert resolve([name]) == [(status, genes)]


@pytest.mark.parametrize(
    ("name", "genes"),
    [("CD4", (12504,)), ("anti-mouse CD4", (12504,)), ("CD11b", (16409,)), ("I-A/I-E", (14960, 14961))],
)
def test_a_panel_for_mice_is_of_mouse_genes(name, genes):
    assert resolve([name], MOUSE)[0][1] == genes


def test_genes_of_cells_are_no_antibodies_unasked():
    assert resolve(["CD3_TotalSeqB", "CD11c"], use_antibodies=False) == [("unknown", ())] * 2


def test_what_an_antibody_is_not_resolved_to_is_explained(demo_kb):
    found = demo_kb.resolve(["CD3", "Rat_IgG2b_k_isotype_Ctrl"], use_antibodies=True)
    reasons = {loss.name: loss.reason for loss in demo_kb.coverage(found).losses}
    assert reasons["CD3"] == "protein of several genes: 915, 916, 917"
    assert "isotype control" in reasons["Rat_IgG2b_k_isotype_Ctrl"]


AFFYMETRIX = (
    "#%create_date=2016\n"
    '"Probe Set ID","Gene Symbol","Entrez Gene","RefSeq Transcript ID"\n'
    '"206804_at","CD3G","917","NM_000073"\n"213539_at","CD3D","915","NM_000732 /// NM_001040651"\n'
    '"1_at","CD3D /// CD3E","915 /// 916","---"\n"2_at","---","---","---"\n'
)
ILLUMINA = "Probe_Id\tSymbol\tAccession\nILMN_2261416\tCD3D\tNM_000732.4\nILMN_1\tnonsense\tNM_1.1\n"
HGNC = (
    "hgnc_id\tsymbol\tentrez_id\tuniprot_ids\tensembl_gene_id\nHGNC:1674\tCD3E\t916\tP07766|Q8N0Z1\tENSG00000198851\n"
)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("HG-U133.csv", AFFYMETRIX, {"206804_at": 917, "NM_001040651.2": 915, "1_at": 0, "2_at": 0, "CD3E": 916}),
        ("HT-12.tsv", ILLUMINA, {"ILMN_2261416": 915, "NM_000732": 915, "NM_000732.9": 915, "ILMN_1": 0}),
        ("hgnc.txt", HGNC, {"P07766": 916, "Q8N0Z1-2": 916, "P99999": 0}),
    ],
)
def test_probes_and_accessions_are_resolved_by_a_table(demo_kb, tmp_path, file, text, expected):
    (tmp_path / file).write_text(text)
    found = demo_kb.resolve(list(expected), table=tmp_path / file)
    assert dict(zip(found.names, found.gene_ids.tolist(), strict=True)) == expected
    if "1_at" in expected:
        assert found.candidates == {2: (915, 916)}


def test_a_table_without_genes_is_refused(demo_kb, tmp_path):
    (tmp_path / "probes.tsv").write_text("probe\tchromosome\n1_at\t11\n")
    with pytest.raises(SourceUnusable, match="no column of genes"):
        demo_kb.resolve(["1_at"], table=tmp_path / "probes.tsv")
