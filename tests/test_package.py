"""The wheel and the sdist: built, installed elsewhere, and at work there, out of the checkout's sight.

Dependencies are not installed anew, which would take minutes and gigabytes: a `.pth` file lets the new environment see
those of this one. The checkout stays invisible, since what makes it importable here is a `.pth` file too, and those
are not followed twice. What the wheel asks for is compared with settings.ini, and test_structure.py compares that
with what the modules import, so that nothing is lent that the wheel does not ask for.
"""

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from book import ROOT
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow
KEPT_OUT = (
    ".git",
    ".venv",
    ".peers",
    "runs",
    "work",
    "build",
    "dist",
    "*.egg-info",
    "__pycache__",
    ".*_cache",
    ".coverage-data",
)


def settings() -> configparser.SectionProxy:
    """What settings.ini says."""
    config = configparser.ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, built from a copy of the checkout, and the wheel, built from the sdist."""
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT, folder / "copy", ignore=shutil.ignore_patterns(*KEPT_OUT))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", folder / "copy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def elsewhere(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own that holds the wheel, and sees the dependencies but not the checkout."""
    folder = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", built[1]]
    subprocess.run(install, check=True, env=clean_environment(), cwd=folder)
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def clean_environment() -> dict[str, str]:
    """This environment, without what would make the checkout or a plan for coverage visible elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COVERAGE", "PIP_"))}


def data_files() -> set[str]:
    """The files beside the modules that the package needs."""
    found = [path for kind in ("configs/*.toml", "folds/*.csv", "static/*") for path in (ROOT / "sedsoft").glob(kind)]
    return {path.relative_to(ROOT).as_posix() for path in found if path.is_file()}


def test_wheel_holds_modules_and_data_and_nothing_else(built: tuple[Path, Path]):
    names = {name for name in zipfile.ZipFile(built[1]).namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "sedsoft").glob("*.py")}
    assert names == modules | data_files()


def test_sdist_holds_the_book_and_what_builds_it(built: tuple[Path, Path]):
    names = {name.partition("/")[2] for name in tarfile.open(built[0]).getnames()}
    book = {
        path.relative_to(ROOT).as_posix() for path in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_ch" not in str(path)
    }
    pages = {"settings.ini", "setup.py", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", "tests/conftest.py"}
    assert book | pages | data_files() <= names
    assert not [name for name in names if re.search(r"(^|/)(\.venv|\.peers|runs|__pycache__)(/|$)", name)]


def test_wheel_asks_for_what_settings_say(elsewhere: Path):
    (site,) = (elsewhere / "venv" / "lib").glob("python*/site-packages")
    (info,) = site.glob("sedsoft-*.dist-info")
    metadata = Distribution.at(info)
    asked = {Requirement(text) for text in metadata.requires if "extra ==" not in text}
    assert asked == {Requirement(text) for text in settings()["requirements"].split()}
    for requirement in asked:
        assert distribution(requirement.name).version in requirement.specifier
    assert metadata.metadata["Requires-Python"] == ">=3.11"
    scripts = {f"{entry.name}={entry.value}" for entry in metadata.entry_points if entry.group == "console_scripts"}
    assert scripts == set(settings()["console_scripts"].split())


def test_every_module_imports_from_elsewhere(elsewhere: Path):
    names = [f"sedsoft.{path.stem}" for path in sorted((ROOT / "sedsoft").glob("*.py")) if path.stem != "__init__"]
    code = f"import importlib\nfor name in {names}: print(importlib.import_module(name).__file__)"
    python = elsewhere / "venv" / "bin" / "python"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, cwd=elsewhere, env=clean_environment())
    assert done.returncode == 0, done.stderr
    assert all(Path(line).is_relative_to(elsewhere) for line in done.stdout.split()), done.stdout


def test_demo_runs_from_elsewhere(elsewhere: Path):
    command = elsewhere / "venv" / "bin" / "sedsoft_demo"
    folder = elsewhere / "somewhere"
    folder.mkdir()
    done = subprocess.run([command], capture_output=True, text=True, cwd=folder, env=clean_environment(), timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    figures = json.loads((folder / "runs" / "demo" / "metrics.json").read_text(encoding="utf-8"))
    assert f"{100 * figures['f1_mo']:.2f} %" in done.stdout
    assert figures["chance"] + 0.08 < figures["f1_mo"] < 0.8  # worth training for, and not solved
    assert (folder / "runs" / "demo" / "report.html").stat().st_size > 1000
