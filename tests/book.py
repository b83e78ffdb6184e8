"""Run the chapters as a reader would: each in a kernel of its own, from its own folder, against the installed library.

    python tests/book.py [--slow] [CHAPTER ...]

runs the named chapters (all, if none is named) and keeps their outputs, cleaned; `tests/test_notebooks.py`
runs them the same way and keeps nothing.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
NBS = ROOT / "nbs"


def chapters() -> list[Path]:
    """Every notebook of the book, in reading order."""
    found = [path for path in NBS.rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    return sorted(found, key=lambda path: (path.parent != NBS, path.name))


def is_slow(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell carries the flag of those that `make slow` runs."""
    return cell.cell_type == "code" and any(line.strip() == "#| slow" for line in cell.source.splitlines()[:3])


def run(path: Path, *, slow: bool = False, timeout_s: int = 600) -> nbformat.NotebookNode:
    """Run one chapter and return it with its outputs; slow cells are passed over unless asked for."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if is_slow(cell) and not slow:
            cell.metadata["tags"] = ["skip-execution"]
    with tempfile.TemporaryDirectory() as home:
        os.environ["IPYTHONDIR"] = home
        resources = {"metadata": {"path": str(path.parent)}}
        client = NotebookClient(notebook, timeout=timeout_s, kernel_name="python3", resources=resources)
        client.skip_cells_with_tag = "skip-execution"
        client.execute()
    for cell in notebook.cells:
        if cell.metadata.get("tags") == ["skip-execution"]:
            del cell.metadata["tags"]
    return notebook


def main() -> None:
    """Run the named chapters and keep their outputs."""
    parser = argparse.ArgumentParser(description="Run chapters and keep their outputs.")
    parser.add_argument("names", nargs="*", help="chapters, such as 05_features or tutorials/01_quickstart; all if none")
    parser.add_argument("--slow", action="store_true", help="run the cells flagged slow as well")
    args = parser.parse_args()
    paths = [NBS / f"{name.removesuffix('.ipynb')}.ipynb" for name in args.names] or chapters()
    for path in paths:
        sys.stderr.write(f"{path.relative_to(ROOT)}\n")
        nbformat.write(run(path, slow=args.slow), path)


if __name__ == "__main__":
    main()
