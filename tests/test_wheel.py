"""The wheel holds what it needs, nothing that clashes, and works in an environment of its own."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_packages_and_their_data_and_no_module_named_cli(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"genekb", "cellmodel", "genekb_cellmodel_cli"}
    assert {
        "genekb/sources/demo_genes.tsv",
        "genekb/encoders/models.toml",
        "genekb/py.typed",
        "cellmodel/report/template.html.j2",
        "cellmodel/report/report.js",
        "cellmodel/report/report.css",
    } <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_works_in_an_empty_environment(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, f"{wheel}[scanpy]"], check=True, capture_output=True, timeout=1500, cwd=tmp_path)
    result = subprocess.run(
        [str(tmp_path / "env" / "bin" / "cellmodel"), "demo", "--model", "lsa-64", "--json",
         "--output", str(tmp_path / "out"), "--home", str(tmp_path / "home")],
        check=True, capture_output=True, text=True, timeout=300, cwd=tmp_path, env={"HOME": str(tmp_path)},
    )  # fmt: skip
    assert json.loads(result.stdout)["n_cells"] == 700
    assert (tmp_path / "out" / "report.html").is_file()
