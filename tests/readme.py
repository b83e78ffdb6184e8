"""Write README.md from nbs/index.ipynb: the chapter as Markdown, its pictures as files, its links seen from the root.

python tests/readme.py
"""

import base64
import posixpath
import re
import sys
from pathlib import Path

import nbformat
from book import NBS, ROOT, directives
from nbformat import NotebookNode

SOURCE = "nbs/index.ipynb"
PICTURE = "nbs/images/index_{}.png"  # README shows files only; these are the committed outputs of the chapter
NOTE = f"<!-- Made from {SOURCE} by `make readme`: edit that. -->\n"
HIDDEN = {"hide", "hide_input", "export", "exporti", "exports", "default_exp"}


def to_readme(notebook: NotebookNode) -> dict[str, bytes]:
    """The files that the index becomes, by their path from the root: README.md and its pictures."""
    parts, pictures = [NOTE], {}
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(from_root(cell.source))
            continue
        head = directives(cell)
        if "hide" in head or "default_exp" in head:
            continue
        source = "\n".join(line for line in cell.source.splitlines() if not line.startswith("#|")).strip()
        if source and not HIDDEN & head.keys():
            parts.append(f"```python\n{source}\n```")
        for output in cell.outputs:
            parts += output_to_markdown(output, pictures)
    text = "\n\n".join(part.strip("\n") for part in parts) + "\n"
    return {"README.md": text.encode(), **pictures}


def output_to_markdown(output: NotebookNode, pictures: dict[str, bytes]) -> list[str]:
    """One output as Markdown; a picture becomes a file and a link to it."""
    data = {"text/plain": output.text} if output.output_type == "stream" else output.get("data", {})
    if "image/png" in data:
        path = PICTURE.format(len(pictures) + 1)
        pictures[path] = base64.b64decode(data["image/png"])
        return [f"![{Path(path).stem}]({path})"]
    if "text/markdown" in data:
        return [from_root(data["text/markdown"])]
    if data.get("text/plain", "").strip():
        return [f"```text\n{data['text/plain'].rstrip()}\n```"]
    return []


def from_root(text: str) -> str:
    """Markdown whose links, written to work in nbs/, work from the root."""

    def moved(match: re.Match) -> str:
        target = match[1]
        if re.match(r"[a-z]+:|#|/", target):
            return match[0]
        return f"]({posixpath.normpath(posixpath.join('nbs', target))})"

    return re.sub(r"\]\(([^)\s]+)\)", moved, text)


def main() -> None:
    """Write what has changed."""
    path = ROOT / SOURCE
    if not path.exists():
        sys.exit(f"no {SOURCE} yet: README.md stays as it is")
    files = to_readme(nbformat.read(path, as_version=4))
    for old in (NBS / "images").glob("index_*.png"):
        if old.relative_to(ROOT).as_posix() not in files:
            old.unlink()
    for name, content in files.items():
        (ROOT / name).parent.mkdir(exist_ok=True)
        (ROOT / name).write_bytes(content)
        sys.stdout.write(f"{name}, {len(content)} bytes\n")


if __name__ == "__main__":
    main()
