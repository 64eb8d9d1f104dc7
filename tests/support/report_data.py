"""A report with every part filled, for tests: figures that differ from each other, and text that nobody may trust."""

import dataclasses

import numpy as np
import pandas as pd
import scipy.sparse as sp

from cellmodel.io.cells import FileRecord
from cellmodel.pl.report.collect.data import GeneValues, Layout, ReportData, Samples
from cellmodel.pl.report.collect.genes import by_cluster

HOSTILE = (
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}",
    "<!--<script>",
    "\u2028]]>&lt;b&amp;",
)


def make_evidence(names, cluster):
    theme = {
        "theme": "t cell",
        "source": "text",
        "share": 0.34375,
        "score": 3.375 + cluster,
        "p_adjusted": 0.0078125,
        "genes": ((names[8], 0.28125 + cluster, f"Found on T-cells {names[9]}."),),
    }
    contribution = {
        "gene": names[1],
        "contribution": 1.15625,
        "share": 0.40625,
        "p_value": 0.09375,
        "term": names[2],
        "sentence": names[3],
    }
    enriched = {"set": names[0], "source": "GO", "p_adjusted": 0.0234375, "fold": 7.625 + cluster, "genes": names[5]}
    return {
        "distance": 2.84375 + cluster,
        "distance_p": 0.00390625,
        "themes": (theme,),
        "contributions": (contribution,),
        "sets": (enriched,),
    }


def make_name(names, cluster):
    return {
        "name": "unassigned",
        "confidence": "",
        "mix": f"70 % {names[0]}, 30 % {names[1]}",
        "is_mixed": False,
        "title": f"unassigned (best: {names[4]}, 3 of 10 markers)",
        "best": names[4],
        "runner_up": names[5],
        "parent": names[2],
        "reason": "3 of 10 markers",
        "ontology_id": "",
        "figures": {"score": 0.71875 + cluster, "adjusted p": 0.0625},
        "genes": (names[6], names[7]),
    }


def make_search(names):
    genes = ((names[1], 1.71875, names[3]),)
    row = {"cluster": "0", "n_cells": 20, "score": 6.28125, "p_value": 0.0390625, "genes": genes}
    return {
        "key": "asked",
        "query": f"cytotoxic {names[2]}",
        "p_value": 0.0048828125,
        "stands_out": True,
        "unknown": (names[4],),
        "types": ((names[5], 0.84375),),
        "clusters": (row,),
        "genes": genes,
    }


def make_comparison(names, cluster):
    theme = {
        "theme": f"interferon {names[2]}",
        "source": "text",
        "share": 0.21875,
        "score": 5.0625 + cluster,
        "p_adjusted": 0.01171875,
        "genes": ((names[8], 0.46875 + cluster, f"Induced by interferon {names[9]}."),),
    }
    gene = {"log2_fold_change": 2.59375 + cluster, "p_value": 0.00048828125, "p_adjusted": 0.0146484375}
    return {
        "cluster": names[cluster],
        "condition": names[6],
        "against": names[7],
        "comparison": f"{names[6]} vs {names[7]}",
        "n_samples": 3, "n_against": 4, "n_cells": 1_301 + cluster, "n_cells_against": 1_409, "is_paired": False,
        "method": "limma-trend", "reason": "", "limits": "", "n_genes": 8_001, "n_up": 203, "n_down": 104,
        "up": ({"gene": f"UP {names[4]}", **gene},),
        "down": ({"gene": f"DOWN {names[5]}", **gene, "log2_fold_change": -1.65625},),
        "themes_up": (theme,), "themes_down": (),
    }  # fmt: skip


def with_samples(data, *, text=HOSTILE):
    """The same data with samples in two conditions, and all that was compared between them."""
    names = [f"{text[at % len(text)]} {at}" for at in range(12)]
    samples = tuple((f"s{at} {names[at]}", f"condition {names[at // 2]}") for at in range(4))
    codes = np.arange(data.clusters.size) % 5 - 1
    key = f"key {names[0]}"
    mixed = {"batch": names[3], "share": 0.515625, "before": 0.84375, "after": 0.4140625, "if_mixed": 0.328125}
    rows = tuple({"cluster": name, "n_cells": 20, **mixed} for name in ("all", *data.cluster_names))
    tested = {"mean_share": 0.2421875, "mean_share_against": 0.1171875, "ratio": 2.0625, "statistic": 3.15625}
    tested |= {"p_value": 0.005859375, "p_adjusted": 0.0166015625, "n_samples": 3, "n_against": 4, "is_paired": True}
    tested |= {"comparison": f"{names[6]} vs {names[7]}"}
    about = {"sample_key": names[1], "condition_key": names[2], "reference": names[7], "batch_key": ""}
    about |= {"notes": (f"a note {names[10]}",)}
    compared = tuple(make_comparison(names, cluster) for cluster in range(len(data.cluster_names)))
    return dataclasses.replace(
        data,
        samples=Samples(key=key, condition_key=names[2], names=samples, codes=codes),
        mixing={"key": names[4], "integration": "harmony", "rows": (*rows[:-1], {**rows[-1], "share": 0.984375})},
        composition={**about, "rows": tuple({"cluster": name, **tested} for name in data.cluster_names)},
        effects=({**about, "comparisons": compared, "themes_of": "samples"},),
        colors={key: np.array([*(name for name, _ in samples), "missing"])[codes], **data.colors},
    )


def file_record(name, n_cells, n_genes, *, by_ortholog=False, **figures):
    """Record of a file, whose name holds any text."""
    record = {"sample": f"of {name}", "n_resolved": n_genes - 77, "by_ortholog": by_ortholog, **figures}
    return FileRecord(file=name, n_cells=n_cells, n_genes=n_genes, **record)


def make_values(genes, expression, clusters):
    """Expression of genes as a report holds it, and a quality of the cells."""
    n_clusters = int(clusters.max()) + 1
    fractions, means = by_cluster(expression.tocsr(), clusters, n_clusters=n_clusters)
    counted = np.arange(len(clusters))
    quality = {"total_counts": 1_000.0 + counted, "pct_counts_mt": counted / 1e2}
    return GeneValues(genes=genes, expression=expression.tocsc(), fractions=fractions, means=means, quality=quality)


def make_data(n_cells=60, *, text=HOSTILE, n_clusters=3, seed=0):
    """Every part filled; the untrusted strings come from ``text``, the figures differ from each other."""
    rng = np.random.default_rng(seed)
    names = [f"{text[at % len(text)]} {at}" for at in range(12)]
    clusters = np.arange(n_cells) % n_clusters
    return ReportData(
        title=f"Report {names[0]}",
        input={
            "source": names[1],
            "n_cells": n_cells + 7,
            "n_genes": 31_337,
            "kind": "raw counts",
            "notes": (names[2],),
            "files": (
                file_record(names[6], 27, 20_101, n_lost=419, share_lost=0.0123, species="mouse", by_ortholog=True),
                file_record(names[7], 40, 19_898, n_lost=216, share_lost=0.0456, species="human"),
            ),
        },
        coverage={
            "n_names": 20_011,
            "n_resolved": 18_777,
            "share_genes": 0.9321,
            "share_hvgs": 0.9432,
            "share_counts": 0.9876,
            "by_status": pd.DataFrame(
                [("symbol", 17_654, 0.9123), ("alias", 1_123, 0.0321)], columns=["status", "n_names", "share_counts"]
            ),
            "losses": pd.DataFrame(
                [(names[3], "unknown to the store", 0.01234), (names[4], f"ambiguous: {names[5]}", 0.000123)],
                columns=["name", "reason", "share_counts"],
            ),
        },
        layouts=(Layout(name=f"UMAP {names[8]}", coordinates=rng.normal(size=(n_cells, 2))),),
        cell_ids=[f"{text[at % len(text)]}-{at}" for at in range(n_cells)],
        clusters=clusters,
        cluster_names=tuple(names[:n_clusters]),
        confidence=rng.random(n_cells),
        k_choice={
            "n_clusters": n_clusters,
            "method": "Leiden at resolution 0.5",
            "repeats": 0.71,
            "p_value": 0.4,
        },
        colors={
            names[6]: np.array([names[at % 4] for at in range(n_cells)]),
            "umi": np.where(rng.random(n_cells) < 0.2, np.nan, rng.gamma(2.0, 500.0, n_cells)),
            "asked": rng.normal(size=n_cells),
        },
        left_out=(f"barcode ({names[3]})",),
        queries={"asked": f"cytotoxic {names[2]}"},
        searches=(make_search(names),),
        values=make_values(
            tuple(f"{names[at]} m{cluster}" for at in range(5) for cluster in range(n_clusters)),
            sp.random(n_cells, 5 * n_clusters, 0.4, format="csc", random_state=seed) * 5.75,
            clusters,
        ),
        names=tuple(make_name(names, cluster) for cluster in range(n_clusters)),
        evidence=(None, *(make_evidence(names, cluster) for cluster in range(1, n_clusters))),
        markers=tuple(
            tuple(
                {
                    "name": f"{names[at]} m{cluster}",
                    "log2_fold_change": float(rng.normal()),
                    "p_adjusted": float(10.0 ** -rng.integers(1, 40)),
                    "fraction_in": float(rng.random()),
                    "fraction_out": float(rng.random()),
                }
                for at in range(5)
            )
            for cluster in range(n_clusters)
        ),
        words=tuple(
            (
                {
                    "term": "t cell",
                    "score": 4.56 + cluster,
                    "p_value": 0.005,
                    "p_adjusted": 0.015,
                    "genes": ((names[7], 1.875 + cluster, f"Found on T-cells {names[8]}."),),
                },
                {"term": names[9], "score": 1.03, "p_value": 0.2, "p_adjusted": 0.801, "genes": ()},
            )
            for cluster in range(n_clusters)
        ),
        history=pd.DataFrame({"align": (3.25, 2.125, 1.0625), names[10]: (0.5, 0.375, 0.28125)}),
        knowledge=pd.DataFrame(
            [("real", 0.812), (f"shuffled {names[11]}", 0.803), ("chance", 0.799)],
            columns=["knowledge", "neighbor_agreement"],
        ),
        provenance={"command": f"cellmodel cluster {names[0]}", "settings": f"a = 1\nb = {names[1]}", "seed": "17"},
        limits=(f"Clusters are not cell types. {names[2]}",),
    )
