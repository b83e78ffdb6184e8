"""The book is a test: every chapter runs in a kernel of its own, against the installed library."""

import io
import resource
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
from book import NBS, ChapterError, chapter_name, chapters, is_slow, run, slim_png

LIMIT_S = {True: 20, False: 60}  # seconds on one core: a chapter's, a tutorial's
NOISE = 2  # processor seconds may be this many times the limit: a core shared with others is slower
PATIENCE = 15  # and the clock on the wall this many times, before a chapter is given up


def cases() -> list:
    """Every chapter without its slow cells; those that have some also with them, for `make slow`."""
    found = [pytest.param(path, False, id=chapter_name(path)) for path in chapters()]
    for path in chapters():
        if any(is_slow(cell) for cell in nbformat.read(path, as_version=4).cells):
            found.append(pytest.param(path, True, id=f"{chapter_name(path)} slow", marks=pytest.mark.slow))
    return found


def cpu_s() -> float:
    """Processor seconds of the child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(("path", "slow"), cases())
def test_chapter_runs_against_the_library(path: Path, slow: bool):
    limit_s = LIMIT_S[path.parent == NBS]
    begin, fault = cpu_s(), None
    try:
        run(path, slow=slow, library=True, limit_s=3600 if slow else limit_s * PATIENCE)
    except ChapterError as error:
        fault = str(error)
    if fault:
        pytest.fail(fault, pytrace=False)
    used = cpu_s() - begin
    assert slow or used <= limit_s * NOISE, (
        f"{chapter_name(path)} took {used:.0f} s of processor time; on one core it must end in {limit_s} s"
    )


def test_a_chapter_that_fails_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("book.NBS", tmp_path)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("one = 1\nassert one == 2, 'one is not two'")])
    nbformat.write(notebook, tmp_path / "00_wrong.ipynb")
    with pytest.raises(ChapterError, match=r"(?s)00_wrong, a cell failed.*one is not two"):
        run(tmp_path / "00_wrong.ipynb")
    notebook.cells[0].source = "while True: pass"
    nbformat.write(notebook, tmp_path / "00_wrong.ipynb")
    with pytest.raises(ChapterError, match=r"(?s)00_wrong ran longer than 2 s.*while True"):
        run(tmp_path / "00_wrong.ipynb", limit_s=2)


def test_exported_names_come_from_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("book.NBS", tmp_path)
    sources = [
        "#| default_exp core",
        "#| export\nimport not_a_module",
        "#| export\ndef unknown_name(): raise RuntimeError",
        "assert unknown_name.__module__ == _plain.__module__ == 'sedsoft.core'",
        "#| slow\nraise RuntimeError",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbformat.write(notebook, tmp_path / "00_core.ipynb")
    run(tmp_path / "00_core.ipynb", library=True)
    with pytest.raises(ChapterError, match="not_a_module"):
        run(tmp_path / "00_core.ipynb")
    with pytest.raises(ChapterError, match="RuntimeError"):
        run(tmp_path / "00_core.ipynb", library=True, slow=True)


def test_kept_pictures_are_smaller_and_look_the_same():
    figure, ax = plt.subplots(figsize=(3, 2), dpi=80)
    ax.imshow(np.random.default_rng(0).random((30, 40)), cmap="magma")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    plt.close(figure)
    slim = slim_png(buffer.getvalue())
    assert len(slim) < 0.6 * len(buffer.getvalue())
    assert slim_png(slim) == slim  # a chapter whose picture is kept twice does not change
    before, after = (plt.imread(io.BytesIO(png))[..., :3] for png in (buffer.getvalue(), slim))
    assert before.shape == after.shape
    assert np.abs(before - after).max() < 0.1
