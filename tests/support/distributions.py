"""What an installation asks for, and what that brings along, read from pyproject.toml and the installed packages."""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def asked(*extras):
    """Requirements of a plain installation and of some extras, those that an extra implies too."""
    waiting, seen, found = [*extras], set(), [*PROJECT["dependencies"]]
    while waiting:
        extra = waiting.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for line in PROJECT["optional-dependencies"][extra]:
            requirement = Requirement(line)
            if requirement.name == PROJECT["name"]:
                waiting += requirement.extras
            else:
                found.append(line)
    return found


def names(lines):
    """Names of distributions that some requirements ask for."""
    return {canonicalize_name(Requirement(line).name) for line in lines}


def closure(requirements):
    """Installed distributions that some requirements bring along, by name."""
    found, waiting = {}, [Requirement(line) for line in requirements]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        found[name] = metadata.distribution(name)
        for line in found[name].requires or ():
            needed = Requirement(line)
            extras = ("", *requirement.extras)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(needed)
    return found


def modules_beyond(distributions):
    """Top-level modules that are installed here and that none of some distributions brings, but for our own."""
    kept = {*distributions, PROJECT["name"]}
    return sorted(
        module
        for module, owners in metadata.packages_distributions().items()
        if not kept & set(map(canonicalize_name, owners))
        and module.isidentifier()
        and module != "tests"  # here it is ours
    )
