"""The wheel holds what the program reads, and what is installed from it finds its catalogs."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="the README belongs to the build")


def build(kind, folder):
    """Build with hatchling itself: no isolation, so no network."""
    pytest.importorskip("hatchling", reason="hatchling is not installed: pip install 'pdplan[dev]'")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return next(p for p in folder.iterdir() if p.suffix in (".whl", ".gz"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build("wheel", tmp_path_factory.mktemp("wheel"))


def relative(folder, *suffixes):
    return {
        p.relative_to(ROOT / folder).as_posix() for p in (ROOT / folder).rglob("*") if p.suffix in suffixes
    }


def test_the_wheel_holds_code_catalogs_constants_and_schemas(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"pdplan/{n}" for n in relative("pdplan", ".py", ".yaml", ".json", ".typed")} <= names
    assert {f"pdplan/_catalogs/hardware/{n}" for n in relative("hardware_catalog", ".yaml")} <= names
    assert {f"pdplan/_catalogs/models/{n}" for n in relative("models_catalog", ".yaml")} <= names
    assert {n.split("/")[0] for n in names} == {
        "pdplan",
        next(n for n in names if "dist-info" in n).split("/")[0],
    }
    assert any(n.endswith("licenses/LICENSE") for n in names)


def test_what_is_unpacked_from_the_wheel_finds_its_catalogs(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "from pdplan.catalog.store import Catalog, shipped_folder;"
        "print(shipped_folder('accelerator')); print(len(Catalog().accelerators()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PDPLAN_CATALOG": ""},
    )
    assert done.returncode == 0, done.stderr
    folder, count = done.stdout.splitlines()
    assert Path(folder) == (tmp_path / "site/pdplan/_catalogs/hardware").resolve()
    assert int(count) == len(relative("hardware_catalog", ".yaml"))


@pytest.mark.slow
def test_the_sdist_holds_what_a_wheel_is_built_from(tmp_path):
    import tarfile

    archive = build("sdist", tmp_path)
    with tarfile.open(archive) as opened:
        names = {n.partition("/")[2] for n in opened.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE"} <= names
    assert {f"hardware_catalog/{n}" for n in relative("hardware_catalog", ".yaml")} <= names
    assert {f"models_catalog/{n}" for n in relative("models_catalog", ".yaml")} <= names
    assert {f"pdplan/{n}" for n in relative("pdplan", ".py", ".yaml", ".json")} <= names
    # Examples and tests read the runs that lie there.
    assert {f"benchmarks/{n}" for n in relative("benchmarks", ".py", ".json", ".csv", ".md")} <= names
