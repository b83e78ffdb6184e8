"""Make what sedsoft needs, in this folder alone: .venv for the package and its development, .peers for its peers.

    python3.11 setup_environment.py [--peers] [--newest]

It runs on a bare Python. What is finished carries a mark and is passed over in an instant; what was left half-made is
noticed and made again. Nothing is deleted that this script did not make.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - whoever types `python3` may have any version; all from 3.6 on read this file
    sys.exit(
        "sedsoft needs Python 3.11 or newer; this is {}.{} ({}).\n".format(*sys.version_info[:2], sys.executable)
        + "Install Python 3.11 beside it (python.org, your system's packages, pyenv, conda), then say where it is:\n"
        "    make setup PYTHON=/path/to/python3.11"
    )

import argparse
import configparser
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent
MARK = "sedsoft-setup.json"
LOG = "sedsoft-setup.log"
NOTE = "unavailable.txt"
SPACE_GB = 4
NETWORK = (
    "NewConnectionError|NameResolutionError|ConnectTimeout|ReadTimeout|Max retries exceeded|ProxyError|SSLError|"
    "Temporary failure in name resolution|Network is unreachable|Connection (refused|reset|aborted|broken)|"
    "connection broken|timed out"
)


class SetupError(Exception):
    """Set-up cannot go on; the message says why, and what to do."""


@dataclass(frozen=True)
class Step:
    """One call of `pip install`."""

    name: str  # in the mark
    said: str  # what it does, for the one who waits
    options: tuple[str, ...]  # what pip is given
    key: str  # differs when the step has to be done again


@dataclass(frozen=True)
class Environment:
    """A virtual environment and how it comes to be."""

    folder: Path
    cost: str  # what it takes, in words
    steps: tuple[Step, ...]
    proof: str  # Python code that runs in the finished environment


@dataclass
class Mark:
    """What is known of an environment, in a file of its own inside it."""

    root: str = str(ROOT)  # the checkout: an environment does not survive being moved
    ours: bool = True  # False: its folder was there before, made by someone else
    complete: bool = False  # all steps were once done
    newest: bool = False  # not the pinned versions
    steps: dict[str, str] = field(default_factory=dict)  # name -> key of the last time

    @classmethod
    def read(cls, folder: Path) -> "Mark | None":
        """The mark in a folder; None where there is none, or none that can be read."""
        try:
            return cls(**json.loads((folder / MARK).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Write the mark, whole or not at all."""
        temporary = folder / f"{MARK}.tmp"
        temporary.write_text(json.dumps(vars(self), indent=1) + "\n", encoding="utf-8")
        temporary.replace(folder / MARK)


def say(text: str) -> None:
    """A line for the one who waits."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def lock() -> TextIO:
    """Wait until no other set-up is at work in this checkout, nor the pip of one that was killed: it holds the lock."""
    file = Path(__file__).open(encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another set-up is at work here, or the pip of one that was stopped: waiting for it ...")
        fcntl.flock(file, fcntl.LOCK_EX)
    return file


def digest(*parts: str | Path) -> str:
    """A key for texts and files' contents."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        whole.update(b"\0")
    return whole.hexdigest()[:16]


def interpreter(folder: Path) -> Path:
    """An environment's Python."""
    return folder / "bin" / "python"


def version_of(folder: Path) -> tuple[int, int] | None:
    """The version of an environment's Python; None if it does not run, or has no pip."""
    code = "import sys, pip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            [interpreter(folder), "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, done.stdout.split())) if done.returncode == 0 else None


# as a path, else a folder named sedsoft, such as a clone, would hide the package from scripts beside it
EDITABLE = ("--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat", "-e", ".")


def package_environment(newest: bool) -> Environment:
    """The package, editable, with all that its work takes."""
    config = configparser.ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    settings = config["DEFAULT"]
    pins = ROOT / "requirements" / "dev.txt"
    wanted = ["setuptools>=77", *settings["requirements"].split(), *settings["dev_requirements"].split()]
    options = tuple(wanted) if newest else ("-r", str(pins))
    built = [ROOT / name for name in ("settings.ini", "setup.py", "pyproject.toml")]
    return Environment(
        folder=ROOT / ".venv",
        cost="about 2 GB on disk, 8 GB where torch comes with CUDA; 2 to 15 minutes, mostly downloads",
        steps=(
            Step("packages", "installing packages", options, digest(*wanted) if newest else digest(pins)),
            Step("sedsoft", "installing sedsoft", EDITABLE, digest(*built)),
        ),
        proof=f"import {settings['lib_name']}",
    )


def peers_environment() -> Environment:
    """The tools that sedsoft is measured against; what builds them is installed first, so that it is pinned too."""
    path = ROOT / "requirements" / "peers.txt"
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    builders = [line for line in lines if re.match("(setuptools|wheel|cython|numpy)==", line, re.IGNORECASE)]
    return Environment(
        folder=ROOT / ".peers",
        cost="about 1 GB on disk; 3 to 6 minutes, one peer is compiled",
        steps=(
            Step("builders", "installing what builds them", tuple(builders), digest(*builders)),
            Step("peers", "installing and compiling", ("--no-build-isolation", "-r", str(path)), digest(path)),
        ),
        proof="import sed_scores_eval, sed_eval, librosa",
    )


def is_made(environment: Environment, mark: Mark | None) -> bool:
    """Whether an environment was finished here once, and still runs."""
    return bool(mark and mark.complete and mark.root == str(ROOT) and version_of(environment.folder))


def make(environment: Environment, newest: bool = False) -> None:
    """Bring an environment up to date; does nothing, and says nothing, where it is."""
    folder, keys = environment.folder, {step.name: step.key for step in environment.steps}
    mark = Mark.read(folder)
    if is_made(environment, mark) and mark.steps == keys:
        return
    with lock() as held:
        mark = Mark.read(folder)
        if not is_made(environment, mark):
            say(f"Setting up {folder.name} ({environment.cost}).")
            free_gb = shutil.disk_usage(ROOT).free / 1e9
            if free_gb < SPACE_GB:
                say(f"Only {free_gb:.1f} GB are free on this disk: that may not be enough.")
            mark = prepare(folder, mark)
        elif mark.steps != keys:
            say(f"{folder.name} is out of date: what it needs has changed.")
        mark.newest = newest
        for step in environment.steps:
            if mark.steps.get(step.name) != step.key:
                pip_install(folder, step, held)
                mark.steps[step.name] = step.key
                mark.write(folder)
        command = [interpreter(folder), "-c", environment.proof]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SetupError(f"{folder} does not work; remove it, and try again:\n{last_lines(done.stderr)}")
        mark.steps, mark.complete = keys, True
        mark.write(folder)


def prepare(folder: Path, mark: Mark | None) -> Mark:
    """An environment with a working pip: a new one, a repaired one, or one that someone else made."""
    if folder.exists() and not folder.is_dir():
        raise SetupError(f"{folder} is in the way: it is no folder. Move it elsewhere, and try again.")
    strangers = folder.is_dir() and any(folder.iterdir()) and not (mark and mark.ours)
    if not strangers:
        if mark and mark.ours:
            say(f"{folder.name} was left half-made, or moved, or lost its Python: it is made again.")
            empty(folder)
        folder.mkdir(exist_ok=True)
        mark = Mark()
        mark.write(folder)
        create(folder)
        return mark
    say(f"{folder.name} is there, but not of this script's making: nothing in it is removed.")
    if version_of(folder) is None and (folder / "pyvenv.cfg").exists():
        create(folder)
    version = version_of(folder)
    if version is None or version < (3, 11):
        found = "has no Python that works" if version is None else f"is of Python {version[0]}.{version[1]}"
        raise SetupError(f"{folder} {found}. Rename or remove it, and try again:\n    mv {folder} {folder}.old")
    mark = Mark(ours=False)
    mark.write(folder)
    return mark


def empty(folder: Path) -> None:
    """Remove what this script made, its mark last, so that being killed here leaves nothing that looks foreign."""
    for path in folder.iterdir():
        if path.name == MARK:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def create(folder: Path) -> None:
    """Let the standard library make a virtual environment here."""
    done = subprocess.run([sys.executable, "-m", "venv", folder], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(
            f"`{sys.executable} -m venv` failed:\n{last_lines(done.stdout + done.stderr)}\n"
            "On Debian and Ubuntu the module is a package of its own: apt-get install python3.11-venv"
        )


def pip_install(folder: Path, step: Step, held: TextIO) -> None:
    """Run one step, its output in a log, its progress on one line; pip holds the lock too, in case it outlives us."""
    command = [interpreter(folder), "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *step.options]
    log = folder / LOG
    lines: list[str] = []
    with Waiting(step.said) as waiting, log.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=ROOT,
            pass_fds=(held.fileno(),),
            env={**os.environ, "PIP_USER": "0", "PIP_PROGRESS_BAR": "off"},
        )
        try:
            for line in process.stdout:
                file.write(line)
                file.flush()
                lines.append(line)
                waiting.show(line)
            if process.wait():
                raise SetupError(f"{why_pip_failed(''.join(lines))}\nAll that pip said: {log}")
        finally:
            if process.poll() is None:
                process.terminate()


def why_pip_failed(text: str) -> str:
    """What went wrong and the way out, from pip's output."""
    said = "pip failed:\n" + last_lines(text)
    if "No space left on device" in text:
        return f"{said}\nThe disk is full. Make room, and run the same command again."
    if re.search(NETWORK, text) or ("(from versions: none)" in text and "PIP_NO_INDEX" not in os.environ):
        return (
            f"{said}\nNo package index could be reached: is there a network, and does pip need a proxy or a mirror\n"
            "(HTTPS_PROXY, PIP_INDEX_URL)? Then run the same command again; what was fetched is kept.\n"
            "Without a network: where there is one run `pip download -d wheels -r requirements/dev.txt`, bring the\n"
            "folder here, and run `PIP_NO_INDEX=1 PIP_FIND_LINKS=$PWD/wheels make setup PEERS=no`."
        )
    seen = sys.version_info[:2] == (3, 11) and sys.platform == "linux"
    if "No matching distribution found" in text and not seen:
        return (
            f"{said}\nThe pinned versions were seen to work on Linux with Python 3.11; this is {sys.platform}, Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}.\nEither `make setup PYTHON=python3.11`, or take the newest "
            "versions that sedsoft allows: `make setup PINNED=no`."
        )
    return f"{said}\nRun the same command again; if it stays so, the lines above say what is missing."


def last_lines(text: str, n: int = 8) -> str:
    """The end of a program's output, without the lines that only say that it tries again."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("WARNING: Retrying")]
    return "\n".join(f"    {line[:300]}" for line in lines[-n:])


class Waiting:
    """Tell what is being done and for how long: on one line of a terminal, or a line every half minute in a log."""

    def __init__(self, what: str):
        self.what, self.now, self.begin, self.stop = what, "", time.monotonic(), threading.Event()
        self.terminal = sys.stdout.isatty()
        self.thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> "Waiting":
        say(f"  {self.what} ...")
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self.thread.join()
        if self.terminal:
            sys.stdout.write("\r\033[K")
        say(f"  {self.what}: {'done' if error[0] is None else 'stopped'} after {self._elapsed()}")

    def show(self, line: str) -> None:
        """Take in one line of pip's output."""
        if line.startswith(("Collecting", "Processing", "Building", "Installing", "Preparing")):
            self.now = line.split("(from")[0].split(": ")[0].strip()

    def _elapsed(self) -> str:
        seconds = round(time.monotonic() - self.begin)
        return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"

    def _tick(self) -> None:
        while not self.stop.wait(1 if self.terminal else 30):
            text = f"  {self._elapsed()}  {self.now}"
            if self.terminal:
                sys.stdout.write(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}")
                sys.stdout.flush()
            else:
                say(text[:100])


def lacking_compiler() -> str | None:
    """Why a C extension cannot be built here; None if it can."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    if shutil.which(compiler[0]) is None:
        return f"there is no C compiler ({compiler[0]})"
    include = Path(sysconfig.get_path("include"))
    if not (include / "Python.h").exists():
        return f"Python's headers are missing ({include / 'Python.h'})"
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "try.c"
        source.write_text("#include <Python.h>\nint answer(void) { return 42; }\n", encoding="utf-8")
        command = [*compiler, f"-I{include}", f"-I{sysconfig.get_path('platinclude')}", "-c", source]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    return f"the C compiler fails:\n{last_lines(done.stderr, 3)}" if done.returncode else None


def make_peers() -> None:
    """Set up the peers, or leave a note that says why not: the tests that need them then skip with that reason."""
    environment = peers_environment()
    folder = environment.folder
    mark = Mark.read(folder)
    reason = None if mark and mark.complete else lacking_compiler()
    if reason is None:
        make(environment)
        (folder / NOTE).unlink(missing_ok=True)
        return
    if not folder.exists():
        folder.mkdir()
        Mark().write(folder)
    (folder / NOTE).write_text(f"{reason}; see `make setup`\n", encoding="utf-8")
    say(
        f"The peers are left out: {reason}.\nTheir tests will be skipped. To have them run: on Debian and Ubuntu "
        "`apt-get install gcc python3-dev`, on a mac\n`xcode-select --install`; then `make setup`."
    )


def main() -> None:
    """Set up what the command line asks for."""
    parser = argparse.ArgumentParser(description="Make .venv, and .peers if asked, in the checkout.")
    parser.add_argument("--peers", action="store_true", help="also the peers that tests compare with, in .peers")
    parser.add_argument(
        "--newest", action="store_true", help="the newest versions that settings.ini allows, not the pins"
    )
    args = parser.parse_args()
    mark = Mark.read(ROOT / ".venv")
    newest = args.newest or bool(mark and mark.newest)
    try:
        make(package_environment(newest), newest)
        if args.peers:
            make_peers()
    except SetupError as error:
        sys.exit(f"\nSet-up stopped. {error}")
    except KeyboardInterrupt:
        sys.exit("\nSet-up was interrupted. The same command takes it up again.")


if __name__ == "__main__":
    main()
