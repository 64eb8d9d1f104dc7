"""Other tools beside ours, run on the same cells with the same references: labels, names of clusters, batches.

    GENEKB_TEST_DATA=DATA python -m benchmarks.others --home HOME --kb human --environments DIR --output results

Labels: of six sets of several batches each batch is left out and labeled by the others; then once a set the type that
has most cells is taken out of the reference, and its cells are to be left without a label. Names: the true types of
human sets by the package's marker table, in decoupler and here. Batches: embeddings scored by scIB, and Leiden on them
with as many clusters as there are types. Labels of the cells that are asked for score, and no tool sees them. Each tool
runs in an environment of its own, with its defaults; seconds are those of the processor, without start and imports. A
tool that cannot be had is skipped, and the page says why.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anndata
import numpy as np
import scanpy as sc
from platformdirs import user_cache_path

import cellmodel as cm
import genekb
from benchmarks.lib.environments import prepare, reason, run, version
from benchmarks.lib.protocol import command_line, data_folder, finish, markdown, values_of
from benchmarks.quality.clusters.batches import N_COMPONENTS, SETS, leiden_to_k
from benchmarks.quality.names.sets import TruthOfSet, known_cells, more_sets, named_sets
from cellmodel.annotate.cell_types import UNASSIGNED, cluster_profiles, type_evidence, usual_types
from cellmodel.annotate.name_cells import name_by_types
from cellmodel.bench.integration import plain_harmony, score_integration
from cellmodel.bench.metrics import score

PROGRAMS: Final = Path(__file__).parent / "programs"
OURS: Final = "cellmodel"
Found = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tool:
    """A tool, its script, its packages, of which the first one's version is shown, and its environment."""

    name: str
    script: str
    packages: tuple[str, ...]
    environment: str


LABELS: Final = (
    Tool(
        name="CellTypist",
        script="celltypist.py",
        packages=("celltypist==1.7.1", "scikit-learn<1.7"),
        environment="others",
    ),
    Tool(name="SingleR", script="singler.py", packages=("singler==0.5.0",), environment="others"),
    Tool(name="popV", script="popv.py", packages=("popv==0.6.1", "pyarrow<20"), environment="popv"),
)
NAMES: Final = (Tool(name="decoupler", script="decoupler.py", packages=("decoupler==2.2.0",), environment="others"),)
BATCHES: Final = (
    Tool(name="scVI", script="scvi.py", packages=("scvi-tools==1.4.2",), environment="scvi"),
    Tool(name="Scanorama", script="scanorama.py", packages=("scanorama==1.7.4",), environment="others"),
)


def ask(tool: Tool, work: Path, root: Path, left_out: Sequence[str]) -> tuple[str, Found]:
    """Run a tool on the files of a folder; its name with the version, and what it found, or nothing and the reason."""
    if tool.name in left_out:
        return f"{tool.name} not run", {}
    script, environment = PROGRAMS / tool.script, root / tool.environment
    try:
        start = prepare(script, tool.packages, environment)
        shown = f"{tool.name} {version(script, tool.packages, environment)}"
        run([*start, script], work)
    except (subprocess.CalledProcessError, OSError) as error:
        sys.stderr.write(f"{tool.name}: {reason(error)}\n")
        return f"{tool.name}: {reason(error)}", {}
    return shown, json.loads((work / "found.json").read_text())


def normalized(name: str) -> anndata.AnnData:
    """Cells of several batches: log-normalized expression, and counts in a layer."""
    adata = anndata.read_h5ad(data_folder() / "batches" / f"{name}.h5ad")
    adata.layers["counts"] = adata.X.copy()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.obs["key"] = adata.obs[SETS[name]].astype(str).astype("category")
    adata.obs["cell_type"] = adata.obs["cell_type"].astype(str)
    return adata


def folds(folder: Path) -> dict[str, np.ndarray]:
    """Write reference and query of every fold; the true labels of the queries."""
    truth = {}
    for name in SETS:
        adata = normalized(name)
        for number, batch in enumerate(adata.obs["key"].cat.categories):
            its = (adata.obs["key"] == batch).to_numpy()
            labels = adata.obs["cell_type"].to_numpy()[its]
            kinds, sizes = np.unique(labels, return_counts=True)
            absent = [None, str(kinds[sizes.argmax()])] if number == 0 else [None]
            for kind in absent:
                fold = folder / f"fold_{name}_{number}{'_absent' if kind else ''}"
                fold.mkdir()
                adata[~its & (adata.obs["cell_type"] != kind).to_numpy()].copy().write_h5ad(fold / "reference.h5ad")
                query = adata[its].copy()
                query.obs = query.obs[["batch"]]
                query.write_h5ad(fold / "query.h5ad")
                truth[fold.name] = np.where(labels == kind, UNASSIGNED, labels)
    return truth


def label_here(folder: Path, kb: genekb.Store) -> Found:
    """Transfer labels by `cm.tl.classify`: with its limit of confidence, and the best class of every cell."""
    found = {}
    for fold in sorted(folder.glob("fold_*")):
        reference, query = (anndata.read_h5ad(fold / f"{name}.h5ad") for name in ("reference", "query"))
        started = time.process_time()
        cm.tl.classify(query, reference, kb, label_key="cell_type", layer="counts", values=values_of(fold.name))
        seconds = time.process_time() - started
        classes = np.asarray(query.uns["cellmodel_class"]["classes"], dtype=str)
        best = classes[np.asarray(query.obsm["cellmodel_class_probabilities"]).argmax(axis=1)]
        found[fold.name] = {
            f"{OURS} classify": {"labels": query.obs["cellmodel_class"].astype(str).tolist(), "seconds": seconds},
            f"{OURS} classify, no limit": {"labels": best.tolist(), "seconds": seconds},
        }
    return found


def label_scores(found: Found, truth: Mapping[str, np.ndarray]) -> Iterator[list[Any]]:
    """Rows of the table of labels, one for each way to ask a tool: means over sets of the means over batches."""
    for how in next(iter(found.values()), {}):
        rows: dict[str, list[list[float]]] = {}
        absent, seconds = [], 0.0
        for fold, right in truth.items():
            labels = np.array(found[fold][how]["labels"])
            seconds += found[fold][how]["seconds"]
            named = labels != UNASSIGNED
            if fold.endswith("_absent"):
                is_absent = right == UNASSIGNED
                absent.append([float((~named[is_absent]).mean()), float(named[~is_absent].mean())])
                continue
            is_right = labels == right
            f1 = _macro_f1(right, labels)
            row = [float(is_right.mean()), f1, float(named.mean()), float(is_right[named].mean())]
            rows.setdefault(fold.rpartition("_")[0], []).append(row)
        means = np.mean([np.mean(of_set, axis=0) for of_set in rows.values()], axis=0)
        yield [how, *means.tolist(), *np.mean(absent, axis=0).tolist(), f"{seconds:.0f}"]


def _macro_f1(right: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(right, labels, labels=np.unique(right), average="macro", zero_division=0))


def labels_page(work: Path, root: Path, kb: genekb.Store, left_out: Sequence[str]) -> list[str]:
    truth = folds(work)
    rows, shown = list(label_scores(label_here(work, kb), truth)), []
    for tool in LABELS:
        name, found = ask(tool, work, root, left_out)
        shown.append(name)
        rows += label_scores(found, truth)
    columns = ("labels", "right", "macro F1", "labeled", "right of labeled",
               "absent type: left without label", "others labeled", "s")  # fmt: skip
    return ["## Labels of a reference", "", *markdown(columns, rows), "", "; ".join(shown), ""]


def names_here(truth: TruthOfSet, kb: genekb.Store) -> tuple[dict[str, dict[str, str]], float]:
    """Names of the true types by markers and text, and by markers alone; seconds of the first."""
    started = time.process_time()
    known = known_cells(truth, kb, "wcp")
    kinds, groups = np.unique(truth.labels, return_inverse=True)
    profiles = cluster_profiles(known.expression, groups, balanced=True)
    evidence = type_evidence(usual_types(), known.alignment, kb)
    verdicts = name_by_types(profiles, evidence, gene_names=known.gene_names, seed=0)
    names = {kind: one.name for kind, one in zip(kinds.tolist(), verdicts, strict=True)}
    return {f"{OURS} annotate": names}, time.process_time() - started


def names_page(work: Path, root: Path, kb: genekb.Store, left_out: Sequence[str]) -> list[str]:
    rows: dict[str, list[list[float]]] = {}
    sets = {truth.data.name: truth for truth in named_sets(_human_sets(), with_clusters=False)}
    seconds = dict.fromkeys((f"{OURS} annotate", "decoupler"), 0.0)
    names: dict[str, dict[str, dict[str, str]]] = {}
    for name, truth in sets.items():
        names[name], took = names_here(truth, kb)
        seconds[f"{OURS} annotate"] += took
        _write_markers(truth, work / f"{name}.h5ad")
    shown, found = ask(NAMES[0], work, root, left_out)
    for name, truth in sets.items():
        if found:
            names[name]["decoupler"] = found[name]["names"]
            seconds["decoupler"] += found[name]["seconds"]
        right = {label: one for label, one in truth.right.items() if one}
        for how, given in names[name].items():
            named = [given.get(label, UNASSIGNED) != UNASSIGNED for label in right]
            is_right = [given.get(label) in one for label, one in right.items()]
            rows.setdefault(how, []).append([float(np.mean(is_right)), float(np.mean(named))])
    table = [[how, *np.mean(of_sets, axis=0).tolist(), f"{seconds[how]:.0f}"] for how, of_sets in rows.items()]
    about = f"{len(sets)} human sets, {sum(sum(map(bool, one.right.values())) for one in sets.values())} types. {shown}"
    return ["## Names of clusters", "", *markdown(("names", "right", "named", "s"), table), "", about, ""]


def _human_sets() -> list[Any]:
    from benchmarks.lib.protocol import load_datasets

    return [data for data in (*load_datasets(), *more_sets()) if data.taxon == "human"]


def _write_markers(truth: TruthOfSet, path: Path) -> None:
    """Write cells with their groups, and the marker table of the candidates for decoupler."""
    adata = anndata.AnnData(truth.cells.matrix.astype(np.float32), obs={"label": truth.labels})
    adata.var_names = list(truth.cells.names)
    adata.var_names_make_unique()
    sc.pp.normalize_total(adata, target_sum=1e4)
    sc.pp.log1p(adata)
    adata.write_h5ad(path)
    lines = [f"{one.name},{gene}" for one in usual_types() for gene in one.genes]
    path.with_suffix(".csv").write_text("\n".join(["source,target", *dict.fromkeys(lines)]) + "\n")


def embeddings_here(adata: anndata.AnnData, name: str, kb: genekb.Store) -> dict[str, tuple[np.ndarray, float]]:
    """Make principal components as scanpy does, Harmony on them, and the embedding of `cm.tl.cluster`; with seconds."""
    started = time.process_time()
    cells = adata.copy()
    sc.pp.highly_variable_genes(cells, n_top_genes=min(2000, adata.n_vars))
    sc.pp.pca(cells, n_comps=N_COMPONENTS, random_state=0)
    pcs = np.asarray(cells.obsm["X_pca"], dtype=np.float32)
    made = {"PCA": (pcs, time.process_time() - started)}
    harmony = plain_harmony(pcs, adata.obs["key"].astype(str).to_numpy(), seed=0)
    made["PCA, Harmony"] = (harmony, time.process_time() - started)
    started = time.process_time()
    counts = anndata.AnnData(adata.layers["counts"], obs=adata.obs[["key"]], var=adata.var[[]])
    cm.tl.cluster(counts, kb, batch_key="key", values=values_of(name))
    made[f"{OURS} cluster, batch key"] = (np.asarray(counts.obsm["X_cellmodel"]), time.process_time() - started)
    return made


def batches_page(work: Path, root: Path, kb: genekb.Store, left_out: Sequence[str]) -> list[str]:
    sets = {name: normalized(name) for name in SETS}
    for name, adata in sets.items():
        cells = adata.copy()
        cells.obs = cells.obs[["key"]]
        cells.write_h5ad(work / f"{name}.h5ad")
    made = {name: embeddings_here(adata, name, kb) for name, adata in sets.items()}
    shown = []
    for tool in BATCHES:
        about, found = ask(tool, work, root, left_out)
        shown.append(about)
        for name, seconds in found.items():
            made[name][tool.name] = (np.load(work / f"{name}.npy"), seconds)
    rows: dict[str, list[list[float]]] = {}
    for name, adata in sets.items():
        labels, keys = adata.obs["cell_type"].tolist(), adata.obs["key"].astype(str).tolist()
        views = {how: z for how, (z, _) in made[name].items()}
        for scib in score_integration(views, y_true=labels, batches=keys, before=views["PCA"]):
            clusters = leiden_to_k(views[scib.embedding], len(set(labels)), 0)
            of_clusters = score(labels, clusters.tolist()).mean
            row = [scib.overall, scib.bio, scib.batch, of_clusters, made[name][scib.embedding][1]]
            rows.setdefault(scib.embedding, []).append(row)
    columns = ("embedding", "overall", "bio", "batch", "clusters", "s")
    table = [[how, *np.mean(of_sets, axis=0)[:4].tolist(), f"{sum(row[4] for row in of_sets):.0f}"]
             for how, of_sets in rows.items()]  # fmt: skip
    return ["## Batches", "", *markdown(columns, table), "", "; ".join(shown), ""]


PARTS: Final = {"labels": labels_page, "names": names_page, "batches": batches_page}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = command_line(str(__doc__))
    parser.add_argument("--kb", default="human", help="Store of human genes.")
    parser.add_argument("--environments", type=Path, default=user_cache_path("genekb") / "clients")
    parser.add_argument("--without", nargs="+", default=(), help="Tools to leave out, by name.")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=tuple(PARTS))
    given = parser.parse_args(arguments)
    kb = genekb.open(given.kb, home=given.home)
    left_out = tuple(given.without)
    lines = ["# Beside other tools", ""]
    for part in given.parts:
        with tempfile.TemporaryDirectory() as name:
            lines += PARTS[part](Path(name), given.environments.absolute(), kb, left_out)
    return finish(given.output, f"others_{'_'.join(given.parts)}", lines, lines=lines)


if __name__ == "__main__":
    sys.exit(main())
