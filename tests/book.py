"""Run the chapters as a reader would: each in a kernel of its own, from its own folder.

    python tests/book.py [--slow] [CHAPTER ...]

runs the named chapters (all, if none is named) as they are written, and keeps their outputs, cleaned.
`tests/test_notebooks.py` runs them against the installed library instead: where a chapter exports, the names come from
its module, so that book and export cannot drift apart. It keeps nothing.
"""

import argparse
import base64
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"
PASSED_OVER = "passed-over"
FROM_MODULE = """\
import importlib
_library = vars(importlib.import_module("{module}"))
globals().update({{name: value for name, value in _library.items() if not name.startswith("__")}})
"""


class ChapterError(Exception):
    """A chapter did not run to its end; the message is what its reader would have seen."""


def chapters() -> list[Path]:
    """Every notebook of the book, in reading order: chapters, then tutorials."""
    found = [path for path in NBS.rglob("*.ipynb") if not any(part.startswith((".", "_")) for part in path.parts)]
    return sorted(found, key=lambda path: (path.parent != NBS, path.name))


def chapter_name(path: Path) -> str:
    """A notebook's name as one types it: `05_features`, `tutorials/01_quickstart`."""
    return path.relative_to(NBS).with_suffix("").as_posix()


def directives(cell: NotebookNode) -> dict[str, str]:
    """The nbdev directives at the head of a code cell, such as {"export": ""} or {"default_exp": "core"}."""
    found = {}
    for line in cell.source.splitlines() if cell.cell_type == "code" else []:
        match = re.match(r"#\s*\|\s*([\w-]+):?\s*(.*)", line)
        if not match:
            break
        found[match[1]] = match[2].strip()
    return found


def is_exported(cell: NotebookNode) -> bool:
    """Whether a cell's code goes into the library."""
    return bool(directives(cell).keys() & {"export", "exporti", "exports"})


def is_slow(cell: NotebookNode) -> bool:
    """Whether a cell carries the flag of those that `make slow` runs."""
    return "slow" in directives(cell)


def module_name(notebook: NotebookNode) -> str | None:
    """The module that a chapter becomes; None for one that exports nothing."""
    for cell in notebook.cells:
        name = directives(cell).get("default_exp")
        if name:
            return f"sedsoft.{name}"
    return None


def with_library(notebook: NotebookNode) -> NotebookNode:
    """The chapter as a test of the installed library: its module's names in place of the cells that export them."""
    source = FROM_MODULE.format(module=module_name(notebook))
    for cell in notebook.cells:
        if is_exported(cell):
            cell.source, source = source, ""
    return notebook


def run(
    path: Path,
    *,
    slow: bool = False,  # run the cells flagged slow as well
    library: bool = False,  # take exported names from the installed library, not from the cells
    limit_s: float = 3600,  # for the whole chapter
) -> NotebookNode:
    """Run one chapter, return it with its outputs; raises `ChapterError` naming the cell that failed or lingered."""
    notebook = nbformat.read(path, as_version=4)
    if library:
        notebook = with_library(notebook)
    for cell in notebook.cells:
        if is_slow(cell) and not slow:
            cell.metadata["tags"] = [PASSED_OVER]
    end = time.monotonic() + limit_s
    with tempfile.TemporaryDirectory(prefix="book-") as home:
        client = _client(notebook, path.parent, Path(home))
        client.timeout_func = lambda cell: max(1, end - time.monotonic())
        try:
            client.execute(env=_environment(home))
        except CellTimeoutError as error:
            raise ChapterError(f"{chapter_name(path)} ran longer than {limit_s:.0f} s\n{error}") from None
        except CellExecutionError as error:
            text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
            raise ChapterError(f"{chapter_name(path)}, a cell failed\n{text}") from None
    for cell in notebook.cells:
        if cell.metadata.get("tags") == [PASSED_OVER]:
            del cell.metadata["tags"]
    return notebook


def _client(notebook: NotebookNode, folder: Path, home: Path) -> NotebookClient:
    """A client whose kernel talks through files in `home`, so that no port is open while the chapter runs."""
    sockets = {"transport": "ipc", "ip": str(home / "s"), "connection_file": str(home / "kernel.json")}
    return NotebookClient(
        notebook,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        skip_cells_with_tag=PASSED_OVER,
        coalesce_streams=True,
        record_timing=False,
        store_widget_state=False,  # a chapter keeps pictures of widgets, never their state
        config=Config({"KernelManager": sockets}),
    )


def _environment(home: str) -> dict[str, str]:
    """The kernel's environment: our commands first on the path, nothing read from or left in the user's home."""
    return {
        **os.environ,
        "IPYTHONDIR": home,
        "JUPYTER_CONFIG_DIR": home,
        "JUPYTER_DATA_DIR": home,
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "TQDM_DISABLE": "1",  # a chapter keeps no bars
    }


def slim(notebook: NotebookNode) -> NotebookNode:
    """The same with its pictures in 256 colours: a third of the bytes, and the eye sees no difference."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                data["image/png"] = base64.b64encode(slim_png(base64.b64decode(data["image/png"]))).decode()
    return notebook


def slim_png(png: bytes) -> bytes:
    """A PNG on white with a palette of 256 colours; as it was where that is no smaller."""
    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture).convert("RGB")
    buffer = io.BytesIO()
    flat.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return min(buffer.getvalue(), png, key=len)


def main() -> None:
    """Run the named chapters and keep their outputs."""
    parser = argparse.ArgumentParser(description="Run chapters and keep their outputs, cleaned.")
    parser.add_argument(
        "names", nargs="*", help="chapters, such as 05_features or tutorials/01_quickstart; all if none"
    )
    parser.add_argument("--slow", action="store_true", help="run the cells flagged slow as well")
    args = parser.parse_args()
    for path in [NBS / f"{name.removesuffix('.ipynb')}.ipynb" for name in args.names] or chapters():
        if not path.exists():
            parser.error(f"no such chapter: {chapter_name(path)}; known: {', '.join(map(chapter_name, chapters()))}")
        sys.stderr.write(f"{chapter_name(path)} … ")
        sys.stderr.flush()
        begin = time.monotonic()
        try:
            nbformat.write(slim(run(path, slow=args.slow)), path)
        except ChapterError as error:
            sys.exit(f"failed\n{error}")
        subprocess.run([Path(sys.executable).with_name("nbdev_clean"), "--fname", path], check=True, cwd=ROOT)
        sys.stderr.write(f"{time.monotonic() - begin:.1f} s\n")


if __name__ == "__main__":
    main()
