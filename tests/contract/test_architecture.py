"""Imports point one way; no cycle. What is imported where a user waits for help: test_startup.py."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"genekb": ROOT / "genekb", "cellmodel": ROOT / "cellmodel", "cli": ROOT / "cli" / "genekb_cellmodel_cli"}
MAY_IMPORT = {"genekb": set(), "cellmodel": {"genekb"}, "cli": {"genekb", "cellmodel"}}
ANNDATA_ROOMS = {"io", "pl", "tl"}
RESTRICTED_PICKLE = "genekb/encoders/imported/safe_pickle.py"  # reads pickles without executing what they ask for
LABEL_PARAMETERS = {"y_true", "labels_true", "cell_type", "truth", "true_labels"}
MOST_ENTRIES = 14
FLOORS = {  # rooms, lowest first; those of one floor do not import one another
    "genekb": [
        {"core"},
        {"files", "schema"},
        {"genes", "net"},
        {"sources"},
        {"encoders"},
        {"store"},
        {"share"},
        {"builder", "query"},
    ],
    "cellmodel": [
        {"core"},
        {"io", "nn"},
        {"pp"},
        {"cluster"},
        {"explain", "recipes"},
        {"annotate", "perturb"},
        {"pl"},
        {"tl"},
        {"bench"},
    ],
}
PRIVATE_BUT_OPEN = {"cellmodel.tl", "cellmodel.pl"}  # their doors are the functions that users call


def modules(package):
    return sorted(PACKAGES[package].rglob("*.py"))


def module_name(path):
    for folder in PACKAGES.values():
        if path.is_relative_to(folder):
            parts = (folder.name, *path.relative_to(folder).with_suffix("").parts)
            return ".".join(part for part in parts if part != "__init__")
    raise AssertionError(path)


MODULE_NAMES = {module_name(path) for package in PACKAGES for path in modules(package)}


@cache
def parsed(path):
    return ast.parse(path.read_text())


@cache
def imported(path, *, top_level_only=False, types_too=False):
    """Names that a module imports; ``types_too``: under ``TYPE_CHECKING``, too."""
    tree = parsed(path)
    guarded = [node for node in tree.body if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    for_types = [node for block in guarded for node in ast.walk(block)]
    known = {id(node) for node in for_types}
    nodes = tree.body if top_level_only else [node for node in ast.walk(tree) if id(node) not in known]
    nodes = [*nodes, *for_types] if types_too else nodes
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= members
            if not members <= MODULE_NAMES:  # `from package import module` needs the package alone to exist
                names.add(node.module)
    return frozenset(names)


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_lies_below_them(package):
    own = PACKAGES[package].name
    forbidden = {folder.name for folder in PACKAGES.values()} - MAY_IMPORT[package] - {own}
    for path in modules(package):
        tops = {name.split(".")[0] for name in imported(path)}
        assert not tops & forbidden, f"{path.relative_to(ROOT)} imports {tops & forbidden}"


def edges(*, top_level_only, types_too=False):
    every = {module_name(path): path for package in PACKAGES for path in modules(package)}
    return {
        name: (imported(path, top_level_only=top_level_only, types_too=types_too) & every.keys()) - {name}
        for name, path in every.items()
    }


def room_of(module):
    return module.split(".")[1] if "." in module else ""


def room_edges():
    """Edges between rooms, lazy imports and those for types included."""
    found = {}
    for name, targets in edges(top_level_only=False, types_too=True).items():
        package, room = name.split(".")[0], room_of(name)
        near = {room_of(target) for target in targets if target.startswith(f"{package}.")}
        found.setdefault((package, room), set()).update(near - {room, ""})
    return found


def test_no_import_cycle():
    rooms = {
        f"{package}.{room}": {f"{package}.{other}" for other in others}
        for (package, room), others in room_edges().items()
        if room
    }
    for graph in (edges(top_level_only=True), rooms):
        TopologicalSorter(graph).prepare()  # raises CycleError, which names the cycle


def test_no_circle_of_imports_for_types():
    graph = {
        name: targets
        for name, targets in edges(top_level_only=True, types_too=True).items()
        if name not in PACKAGES  # what users call is exported lazily
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("package", FLOORS)
def test_imports_point_down(package):
    level = {room: number for number, rooms in enumerate(FLOORS[package]) for room in rooms}
    for (owner, room), others in room_edges().items():
        if owner == package and room:
            above = {other for other in others if level[other] >= level[room]}
            assert not above, f"{package}.{room} imports {above}, which lie on its floor or above it"


@cache
def door_of(room):
    """Names in ``__all__`` of a sub-package."""
    package, *parts = room.split(".")
    folder = next(folder for folder in PACKAGES.values() if folder.name == package)
    path = folder.joinpath(*parts) / "__init__.py"
    for node in parsed(path).body if path.is_file() else ():
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def test_nobody_reaches_past_the_door_of_a_sub_package():
    for name, targets in edges(top_level_only=False).items():
        for target in targets:
            parts = target.split(".")
            for depth in range(2, len(parts)):
                room = ".".join(parts[:depth])
                if not f"{name}.".startswith(f"{room}.") and room not in PRIVATE_BUT_OPEN:
                    assert parts[depth] in door_of(room), f"{name} imports {target}: not in __all__ of {room}"


def test_doors_are_narrow_and_folders_small():
    for folder in PACKAGES.values():
        for path in [folder, *(path for path in folder.rglob("*") if path.is_dir() and path.name != "__pycache__")]:
            entries = {
                file.relative_to(path).parts[0] for file in path.rglob("*") if file.is_file() and file.suffix != ".pyc"
            }
            assert len(entries) <= MOST_ENTRIES, f"{path} has {len(entries)} entries"
            room = ".".join(path.relative_to(folder.parent).parts)
            is_package = path == folder or room in PRIVATE_BUT_OPEN  # what people call: a name for each command
            assert is_package or len(door_of(room)) <= 12, f"the door of {room} is wide"


def test_anndata_is_touched_in_three_rooms():
    for path in modules("genekb") + modules("cellmodel"):
        relative = path.relative_to(ROOT)
        if relative.parts[0] != "cellmodel" or relative.parts[1] not in ANNDATA_ROOMS:
            assert "anndata" not in {name.split(".")[0] for name in imported(path)}, relative


def test_true_labels_are_a_parameter_of_the_bench_alone():
    for path in modules("cellmodel"):
        relative = path.relative_to(PACKAGES["cellmodel"]).as_posix()
        if relative.startswith("bench/"):
            continue
        assert "cellmodel.bench.metrics" not in imported(path), f"{relative} imports metrics"
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.arguments):
                names = {argument.arg for argument in [*node.posonlyargs, *node.args, *node.kwonlyargs]}
                assert not names & LABEL_PARAMETERS, f"{relative} takes {names & LABEL_PARAMETERS}"


def test_no_pickle_and_no_network_library_at_the_top():
    for package in PACKAGES:
        for path in modules(package):
            allowed = {"pickle"} if path.relative_to(ROOT).as_posix() == RESTRICTED_PICKLE else set()
            tops = {name.split(".")[0] for name in imported(path)}
            assert not tops & ({"pickle", "joblib", "dill", "marshal", "shelve"} - allowed), path
            at_top = {name.split(".")[0] for name in imported(path, top_level_only=True)}
            assert not at_top & {"requests", "httpx"}, path
