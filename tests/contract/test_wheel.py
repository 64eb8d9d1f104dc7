"""The wheel holds what it needs, nothing that clashes, and works in an environment of its own."""

import json
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import genekb
from genekb.share.lock import pin_store, write_pins
from genekb.share.push import push_store
from genekb.share.remotes import parse_address
from tests.support.loopback import serving

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]  # the wheel is made of the sdist
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    checked = [sys.executable, "-m", "twine", "check", "--strict", *map(str, folder.iterdir())]
    subprocess.run(checked, check=True, capture_output=True, timeout=60)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_packages_and_their_data_and_no_module_named_cli(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"genekb", "cellmodel", "genekb_cellmodel_cli"}
    assert {
        "genekb/genes/antibodies.tsv",
        "genekb/genes/taxa.tsv",
        "genekb/store/card.md.j2",
        "genekb/store/croissant_context.json",
        "genekb/sources/demo_genes.tsv",
        "genekb/encoders/models.toml",
        "genekb/py.typed",
        "cellmodel/annotate/data/CL-ontology-v2026-03-26.json.zst",
        "cellmodel/annotate/data/label_words.tsv",
        "cellmodel/pl/report/page/template.html.j2",
        "cellmodel/pl/report/page/report.js",
        "cellmodel/pl/report/page/report.css",
        "cellmodel/pl/report/page/samples.html.j2",
        "cellmodel/pl/report/page/samples.js",
        "cellmodel/pl/report/page/served.js",
    } <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_wheel_works_in_an_empty_environment(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--constraint", str(ROOT / "constraints.txt")]
    subprocess.run([*pip, f"{wheel}[scanpy]"], check=True, capture_output=True, timeout=1500, cwd=tmp_path)
    result = subprocess.run(
        [str(tmp_path / "env" / "bin" / "cellmodel"), "demo", "--model", "wcp-64", "--json",
         "--output", str(tmp_path / "out"), "--home", str(tmp_path / "home")],
        check=True, capture_output=True, text=True, timeout=300, cwd=tmp_path, env={"HOME": str(tmp_path)},
    )  # fmt: skip
    assert json.loads(result.stdout)["n_cells"] == 700
    assert (tmp_path / "out" / "report.html").is_file()
    give_it_a_locked_store(tmp_path)


def give_it_a_locked_store(folder):
    """Build and lock a store in this environment, and pull it in the empty one: the same digest, byte by byte."""
    config = genekb.BuildConfig(name="demo", models=("hash-64", "wcp-16"))
    built = genekb.open(genekb.build(genekb.read_demo_table(), config, home=folder / "here").folder)
    push_store(built, parse_address(str(folder / "shared")))
    files = {f"/kb/{path.relative_to(folder / 'shared')}": path.read_bytes()
             for path in (folder / "shared").rglob("*") if path.is_file()}  # fmt: skip
    with serving(files=files) as server:
        write_pins([pin_store(built, url=server.url + "kb")], folder / "genekb.lock")
        command = [str(folder / "env" / "bin" / "genekb"), "pull", "--json", "--home", str(folder / "there")]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=300, cwd=folder, env={"HOME": str(folder)}
        )
    assert json.loads(done.stdout)["stores"][0]["digest"] == built.manifest.digest
    there = folder / "there" / "stores" / "demo@1" / built.manifest.digest
    for path in built.folder.rglob("*"):
        assert path.is_dir() or (there / path.relative_to(built.folder)).read_bytes() == path.read_bytes()
