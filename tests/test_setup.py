"""The set-up script on toy checkouts: what it makes, what it passes over, what it refuses, and what it says."""

import ast
import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from book import ROOT

SCRIPT = ROOT / "setup_environment.py"
NOWHERE = "http://127.0.0.1:9/simple"  # nothing listens there
Run = Callable[..., subprocess.CompletedProcess]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout as small as can be: one package of one file that requires nothing."""
    root = tmp_path / "checkout"
    (root / "toy").mkdir(parents=True)
    (root / "requirements").mkdir()
    shutil.copy(SCRIPT, root)
    (root / "toy" / "__init__.py").touch()
    (root / "settings.ini").write_text("[DEFAULT]\nlib_name = toy\nrequirements =\ndev_requirements =\n")
    (root / "setup.py").write_text("from setuptools import setup\n\nsetup(name='toy', packages=['toy'])\n")
    (root / "pyproject.toml").write_text('[build-system]\nrequires = ["setuptools"]\n')
    (root / "requirements" / "dev.txt").write_text("# nothing\n")
    (root / "requirements" / "peers.txt").write_text("# nothing\n")
    return root


@pytest.fixture
def run(checkout: Path, tmp_path: Path) -> Run:
    """Run the script there without a network; setuptools is lent from this environment."""
    lent = tmp_path / "lent"
    lent.mkdir()
    import setuptools

    for name in ("setuptools", "_distutils_hack", "pkg_resources"):
        path = Path(setuptools.__file__).parents[1] / name
        if path.exists():
            (lent / name).symlink_to(path)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    environment |= {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": NOWHERE,
        "PIP_RETRIES": "1",
        "PYTHONPATH": str(lent),
    }

    def run_script(*options: str, **more: str) -> subprocess.CompletedProcess:
        command = [sys.executable, checkout / SCRIPT.name, *options]
        return subprocess.run(command, env=environment | more, capture_output=True, text=True, timeout=300)

    return run_script


def marked(checkout: Path) -> dict:
    """What the script noted of its environment."""
    return json.loads((checkout / ".venv" / "sedsoft-setup.json").read_text())


def test_any_python_3_can_read_the_refusal():
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    code = f"import sys, runpy; sys.version_info = (3, 9, 18); runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("sedsoft needs Python 3.11 or newer; this is 3.9 (")
    assert "make setup PYTHON=" in done.stderr
    assert "Traceback" not in done.stderr


def test_made_once_then_passed_over_then_brought_up_to_date(checkout: Path, run: Run):
    first = run()
    assert first.returncode == 0, first.stdout + first.stderr
    assert "minutes" in first.stdout
    assert " GB" in first.stdout
    python = checkout / ".venv" / "bin" / "python"
    assert subprocess.run([python, "-c", "import toy"], cwd="/").returncode == 0

    begin = time.monotonic()
    second = run()
    assert time.monotonic() - begin < 3
    assert second.returncode == 0
    assert second.stdout == ""

    (python.parents[1] / "mine.txt").write_text("kept")
    settings = checkout / "settings.ini"
    settings.write_text(settings.read_text() + "version = 2\n")
    third = run()
    assert third.returncode == 0
    assert "out of date" in third.stdout
    assert "installing sedsoft" in third.stdout
    assert "installing packages" not in third.stdout
    assert (python.parents[1] / "mine.txt").read_text() == "kept"

    fourth = run("--peers", CC="no-such-compiler")
    assert fourth.returncode == 0, fourth.stdout + fourth.stderr
    assert "there is no C compiler (no-such-compiler)" in fourth.stdout
    assert "Their tests will be skipped" in fourth.stdout
    note = (checkout / ".peers" / "unavailable.txt").read_text()
    assert note.startswith("there is no C compiler")


def test_without_a_network_it_says_so_and_goes_on_later(checkout: Path, run: Run):
    (checkout / "requirements" / "dev.txt").write_text("not-on-this-disk==1.0\n")
    done = run()
    assert done.returncode == 1
    assert "No package index could be reached" in done.stderr
    assert "PIP_NO_INDEX=1" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 20
    assert not marked(checkout)["complete"]

    (checkout / "requirements" / "dev.txt").write_text("# nothing\n")
    again = run()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "half-made" in again.stdout
    assert marked(checkout)["complete"]


def test_two_at_once_wait_for_each_other(checkout: Path):
    script = checkout / SCRIPT.name
    with script.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True) as waiting:
            assert waiting.stdout.readline().startswith("Another set-up is at work here")
            waiting.kill()
    assert not (checkout / ".venv").exists()


def test_pips_faults_are_told_apart(monkeypatch: pytest.MonkeyPatch):
    spec = importlib.util.spec_from_file_location("setup_environment", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, script)
    spec.loader.exec_module(script)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    nowhere = "ERROR: Could not find it (from versions: none)\nERROR: No matching distribution found for x==1\n"
    assert "network" not in script.why_pip_failed(nowhere)
    assert "No matching distribution found for x==1" in script.why_pip_failed(nowhere)
    monkeypatch.delenv("PIP_NO_INDEX")
    assert "No package index could be reached" in script.why_pip_failed(nowhere)
    monkeypatch.setattr(script.sys, "version_info", (3, 99))
    assert "PINNED=no" in script.why_pip_failed("ERROR: No matching distribution found for x==1 (from versions: 2)")
    assert "Make room" in script.why_pip_failed("ERROR: [Errno 28] No space left on device")
    many = "".join(f"WARNING: Retrying ({k})\nline {k}\n" for k in range(100))
    assert script.last_lines(many).splitlines() == [f"    line {k}" for k in range(92, 100)]


def test_an_environment_of_someone_else_is_used_not_emptied(checkout: Path, run: Run):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", checkout / ".venv"], check=True)
    (checkout / ".venv" / "mine.txt").write_text("kept")
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing in it is removed" in done.stdout
    assert (checkout / ".venv" / "mine.txt").read_text() == "kept"


def test_what_is_no_environment_is_left_alone(checkout: Path, run: Run):
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "mine.txt").write_text("kept")
    done = run()
    assert done.returncode == 1
    assert "has no Python that works" in done.stderr
    assert "mv " in done.stderr
    assert [path.name for path in (checkout / ".venv").iterdir()] == ["mine.txt"]


def test_a_test_without_peers_skips_with_that_reason_and_fails_in_ci(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from shared import peers_python

    monkeypatch.setattr("shared.ROOT", tmp_path)
    monkeypatch.delenv("SEDSOFT_PEERS", raising=False)
    (tmp_path / ".peers").mkdir()
    (tmp_path / ".peers" / "unavailable.txt").write_text("there is no C compiler (cc); see `make setup`\n")
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match="no peers: there is no C compiler"):
        peers_python()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="in CI nothing may be missing"):
        peers_python()


def test_every_requirement_is_pinned_to_a_version_it_allows():
    import configparser

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    config = configparser.ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    settings = config["DEFAULT"]
    lines = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    for text in f"{settings['requirements']} {settings['dev_requirements']}".split():
        wanted = Requirement(text)
        version = pins.get(canonicalize_name(wanted.name))
        assert version, f"{wanted.name} of settings.ini is not in requirements/dev.txt"
        assert version in wanted.specifier, f"{wanted} of settings.ini excludes {version} of requirements/dev.txt"
