"""Imports point one way; no cycle. What is imported where a user waits for help: test_startup.py."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"genekb": ROOT / "genekb", "cellmodel": ROOT / "cellmodel", "cli": ROOT / "cli" / "genekb_cellmodel_cli"}
MAY_IMPORT = {"genekb": set(), "cellmodel": {"genekb"}, "cli": {"genekb", "cellmodel"}}
ANNDATA_MODULES = {
    "cellmodel/io.py",
    "cellmodel/readers.py",
    "cellmodel/damage.py",
    "cellmodel/ten_x.py",
    "cellmodel/text_tables.py",
    "cellmodel/stored.py",
    "cellmodel/stored_cells.py",
    "cellmodel/writers.py",
    "cellmodel/slots.py",
    "cellmodel/tl.py",
    "cellmodel/pl.py",
    "cellmodel/reporting.py",
    "cellmodel/genes_h5ad.py",
}
RESTRICTED_PICKLE = "genekb/encoders/restricted_pickle.py"  # reads pickles without executing what they ask for
LABEL_PARAMETERS = {"y_true", "labels_true", "cell_type", "truth", "true_labels"}
LABEL_MODULES = {
    "cellmodel/metrics.py",
    "cellmodel/files.py",
    "cellmodel/trials.py",
    "cellmodel/ablation.py",
    "cellmodel/bench/jobs.py",
}
GENEKB_LAYERS = [
    {"addresses"},
    {"errors", "types", "files", "hints", "interrupts", "parquet_pages", "safe_names", "versions", "words"},
    {"replacing", "limits", "plugins", "printable", "resources"},
    {"schema"},
    {"sources", "resolve", "mangled", "species", "coverage", "documents"},
    {"encoders"},
    {"store"},
    {"engine", "engine_ray"},
    {"changes", "encoding"},
    {"assembly"},
    {"builder", "estimate"},
    {"updating", "diff", "lineage"},
    {"use"},
    {"share"},
]
CELLMODEL_LAYERS = [
    {"choices"},
    {"errors", "types", "seeding", "values", "ordering", "enclosed", "chunks", "heaps"},
    {"matrices", "stages", "device", "damage", "declared"},
    {"distributed"},
    {"ray_rows"},
    {"nearest"},
    {"graph"},
    {"config"},
    {"ten_x", "text_tables"},
    {"readers", "writers"},
    {
        "io",
        "preprocess",
        "align",
        "knowledge",
        "losses",
        "moments",
        "terms",
        "term_scores",
        "metrics",
        "balance",
        "n_shot",
        "cell_types",
        "lineage",
    },
    {
        "semantics",
        "query_weights",
        "queries",
        "type_evidence",
        "type_names",
        "informativeness",
        "specificity",
        "augment",
        "features",
        "nn",
        "cluster",
        "soft_cluster",
        "markers",
        "marker_names",
        "words",
        "attribution",
        "text_evidence",
        "profiles",
        "comparison",
        "coarse",
        "n_clusters",
        "ensemble",
        "gene_sets",
    },
    {"chance", "enrichment"},
    {"themes"},
    {"sentence_cache", "agreement"},
    {"sentences"},
    {"train"},
    {"layout", "classify"},
    {"recipes"},
    {"views"},
    {"stored"},
    {"scan"},
    {"stored_cells"},
    {"streamed_features"},
    {"streamed_text"},
    {"pipeline"},
    {"streamed_run"},
    {"slots", "joint", "fitted", "clustered"},
    {"compared_cells"},
    {"contrasts"},
    {"evidence"},
    {"evidence_tables"},
    {"checkpoint"},
    {"report"},
    {"reporting", "figures"},
    {"pl"},
    {
        "files",
        "labelling",
        "trials",
        "tl",
        "genes_h5ad",
        "ablation",
        "bench",
        "prediction",
        "compared_files",
        "plotting",
        "naming",
        "evidence_file",
        "type_naming",
        "search",
        "sharing",
    },
    {"demo", "locking"},
]


def modules(package):
    return sorted(PACKAGES[package].rglob("*.py"))


def module_name(path):
    for folder in PACKAGES.values():
        if path.is_relative_to(folder):
            parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
            return ".".join(part for part in parts if part != "__init__")
    raise AssertionError(path)


MODULE_NAMES = {module_name(path) for package in PACKAGES for path in modules(package)}


def imported(path, *, top_level_only=False):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= members
            if not members <= MODULE_NAMES:  # `from package import module` needs the package alone to exist
                names.add(node.module)
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_lies_below_them(package):
    own = PACKAGES[package].name
    forbidden = {folder.name for folder in PACKAGES.values()} - MAY_IMPORT[package] - {own}
    for path in modules(package):
        tops = {name.split(".")[0] for name in imported(path)}
        assert not tops & forbidden, f"{path.relative_to(ROOT)} imports {tops & forbidden}"


def test_no_import_cycle_at_the_top_of_modules():
    every = {module_name(path): path for package in PACKAGES for path in modules(package)}
    edges = {name: (imported(path, top_level_only=True) & every.keys()) - {name} for name, path in every.items()}
    done, open_ = set(), []

    def visit(name):
        assert name not in open_, f"cycle: {' -> '.join([*open_, name])}"
        if name not in done:
            open_.append(name)
            for target in sorted(edges[name]):
                visit(target)
            open_.pop()
            done.add(name)

    for name in sorted(every):
        visit(name)


@pytest.mark.parametrize(("package", "layers"), [("genekb", GENEKB_LAYERS), ("cellmodel", CELLMODEL_LAYERS)])
def test_inside_a_package_imports_point_to_lower_layers(package, layers):
    level = {name: number for number, names in enumerate(layers) for name in names}
    for path in modules(package):
        relative = path.relative_to(PACKAGES[package])
        part = relative.parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        assert part in level, f"{relative}: name its layer in this test"
        for name in imported(path, top_level_only=True):
            pieces = name.split(".")
            if pieces[0] == package and len(pieces) > 1 and pieces[1] in level:
                assert level[pieces[1]] <= level[part], f"{relative} imports {name}, which lies above it"


def test_anndata_is_touched_in_few_places():
    for path in modules("genekb") + modules("cellmodel"):
        relative = path.relative_to(ROOT).as_posix()
        if relative not in ANNDATA_MODULES:
            assert "anndata" not in {name.split(".")[0] for name in imported(path)}, relative


def test_true_labels_are_a_parameter_of_metrics_alone():
    for path in modules("cellmodel"):
        relative = path.relative_to(ROOT).as_posix()
        if relative in LABEL_MODULES:
            continue
        assert "cellmodel.metrics" not in imported(path), f"{relative} imports metrics"
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.arguments):
                names = {argument.arg for argument in [*node.posonlyargs, *node.args, *node.kwonlyargs]}
                assert not names & LABEL_PARAMETERS, f"{relative} takes {names & LABEL_PARAMETERS}"


def test_no_pickle_and_no_network_library_at_the_top():
    for package in PACKAGES:
        for path in modules(package):
            tops = {name.split(".")[0] for name in imported(path)}
            forbidden = {"pickle", "joblib", "dill", "marshal", "shelve"}
            if path.relative_to(ROOT).as_posix() == RESTRICTED_PICKLE:
                forbidden -= {"pickle"}
            assert not tops & forbidden, path
            assert not {name.split(".")[0] for name in imported(path, top_level_only=True)} & {"requests", "httpx"}, (
                path
            )
