"""The rules of the house, as tests: each finds what breaks a rule and names the place."""

import ast
import configparser
import inspect
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
from book import NBS, ROOT, chapter_name, chapters, directives, is_exported, module_name
from nbformat import NotebookNode
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from readme import SOURCE, to_readme

BIN = Path(sys.executable).parent
CODE_CELLS, EXPORTED_LINES, FUNCTION_LINES = 45, 600, 50
OUTPUT_KB, CHAPTER_KB = 60, 400
NOTHING = ("None", "NoReturn", "Iterator[None]")  # what a function that gives nothing returns
# words that style has another word for, whatever they stand for
FORBIDDEN = set(
    "rater raters hparams cfg opts fs thr gt truth fimo aug rec recs pred preds prediction predictions posterior"
    " posteriors dataset datasets database cutoff manager handler helper helpers util utils iteration receptive".split()
)
FORBIDDEN_PAIRS = {("y", "true"), ("y", "pred"), ("sampling", "rate"), ("ground", "truth")}
PATHS = re.compile(r"(?<![\w.:/])/(?:home|root|tmp|Users|work|var|opt|usr|mnt|private)/[\w.-]+")
RESTLESS = {
    "a path of the machine": PATHS,
    "an address in memory": re.compile(r"\b0x[0-9a-f]{6,}"),
    "a timing": re.compile(r"\b\d+(\.\d+)? ?(it/s|s/it|[mµn]s per loop|ms ±|s ±)|\b(Wall|CPU) times?:"),
    "a progress bar": re.compile(r"\d+%\|"),
    "a local server": re.compile(r"(127\.0\.0\.1|localhost):\d+"),
}


packages_distributions = cache(packages_distributions)


@cache
def read(path: Path) -> NotebookNode:
    """A notebook, read once."""
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[NotebookNode]:
    """A chapter's code cells."""
    return [cell for cell in read(path).cells if cell.cell_type == "code"]


def exported(path: Path) -> list[ast.Module]:
    """What a chapter exports, cell by cell, parsed."""
    return [ast.parse(cell.source) for cell in code_cells(path) if is_exported(cell)]


def modules() -> dict[str, Path]:
    """Each module's chapter, such as "sedsoft.features" -> nbs/05_features.ipynb."""
    return {name: path for path in chapters() if (name := module_name(read(path)))}


def settings() -> configparser.SectionProxy:
    """What settings.ini says."""
    config = configparser.ConfigParser(delimiters=["="], interpolation=None)
    config.read(ROOT / "settings.ini", encoding="utf-8")
    return config["DEFAULT"]


def no(faults: list[str]) -> None:
    """Fail with the list of faults, if there are any."""
    if faults:
        pytest.fail("\n".join(sorted(set(faults))), pytrace=False)


each_chapter = pytest.mark.parametrize("path", [pytest.param(path, id=chapter_name(path)) for path in chapters()])
each_module = pytest.mark.parametrize(
    ("name", "path"), [pytest.param(name, path, id=name) for name, path in modules().items()]
)


# --- chapters -------------------------------------------------------------------------------------------------------


@each_chapter
def test_chapter_has_a_title_and_a_line_below_it(path: Path):
    first = read(path).cells[0]
    assert first.cell_type == "markdown"
    assert re.match(r"# \S.*\n+> \S.*", first.source), "a chapter begins with `# Title` and a line `> what it is`"


@each_module
def test_module_is_named_after_its_chapter(name: str, path: Path):
    assert re.fullmatch(rf"\d\d_{name.removeprefix('sedsoft.')}", path.stem), f"{path.name} exports {name}"


@each_module
def test_imports_go_downwards(name: str, path: Path):
    floors = {module: chapter.stem for module, chapter in modules().items()}
    faults = []
    for tree in exported(path):
        for module in imported(tree):
            if module not in floors:
                faults.append(f"{path.name} imports {module}, which no chapter exports")
            elif floors[module] >= path.stem:
                faults.append(f"{path.name} imports {module}, of {floors[module]}: only lower numbers may be imported")
    no(faults)


def imported(tree: ast.Module) -> Iterator[str]:
    """The modules of this package that a piece of code imports, at its top or anywhere inside."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(["sedsoft"] * bool(node.level) + [node.module] * bool(node.module))
            names = [f"sedsoft.{alias.name}" for alias in node.names] if module == "sedsoft" else [module]
        else:
            continue
        yield from (name for name in names if name.startswith("sedsoft.") and name != "sedsoft.__version__")


def test_imports_are_found_in_every_form():
    code = """
import numpy, sedsoft.audio
from sedsoft import __version__, labels
from sedsoft.core import FileError
def later():
    from . import runs
    from .plots import plot
"""
    assert [name.partition(".")[2] for name in imported(ast.parse(code))] == [
        "audio",
        "labels",
        "core",
        "runs",
        "plots",
    ]


@each_chapter
def test_imports_stand_alone_in_their_cells(path: Path):
    faults = []
    for tree in exported(path):
        kinds = {isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body}
        definitions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Assign)]
        if True in kinds and definitions:
            faults.append(f"{path.name}: a cell imports and defines: {ast.unparse(definitions[0]).splitlines()[0]}")
        faults += [
            f"{path.name}: {ast.unparse(node)}: import names, not *"
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*"
        ]
    no(faults)


@each_chapter
def test_chapter_can_be_read_in_one_sitting(path: Path):
    cells = code_cells(path)
    lines = [line for cell in cells if is_exported(cell) for line in cell.source.splitlines()]
    n_lines = sum(bool(line.strip()) and not line.startswith("#|") for line in lines)
    faults = []
    if len(cells) > CODE_CELLS:
        faults.append(f"{path.name} has {len(cells)} code cells: over {CODE_CELLS} it is two chapters")
    if n_lines > EXPORTED_LINES:
        faults.append(f"{path.name} exports {n_lines} lines: over {EXPORTED_LINES} it is two chapters")
    no(faults)


@each_chapter
def test_code_is_shown_at_work(path: Path):
    faults, row = [], 0
    for cell in code_cells(path):
        tree = ast.parse(cell.source) if is_exported(cell) else None
        if tree is None:
            row = 0
        elif not all(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body):
            row += 1
        if row == 4:
            faults.append(
                f"{path.name}: four exported cells in a row, up to {defined(tree)}, and none shows what they do"
            )
    no(faults)


@each_chapter
def test_two_thirds_of_the_tests_are_visible(path: Path):
    proof = re.compile(r"^\s*(assert\b|(\w+\.)*assert_\w+\(|with .*(expect_fail|raises)\()", re.MULTILINE)
    cells = [cell for cell in code_cells(path) if not is_exported(cell)]
    n_hidden = sum(len(proof.findall(cell.source)) for cell in cells if "hide" in directives(cell))
    n_all = sum(len(proof.findall(cell.source)) for cell in cells)
    assert 3 * n_hidden <= n_all, f"{path.name} hides {n_hidden} of its {n_all} tests"


def defined(tree: ast.Module) -> str:
    """What a cell defines first, for messages."""
    return next((node.name for node in tree.body if hasattr(node, "name")), "a cell without a name")


# --- outputs --------------------------------------------------------------------------------------------------------


@each_chapter
def test_outputs_are_small_and_still(path: Path):
    faults = [f"{path.name} has {path.stat().st_size / 1000:.0f} KB, over {CHAPTER_KB}"]
    if path.stat().st_size <= CHAPTER_KB * 1000:
        faults = []
    for cell in code_cells(path):
        where = f"{path.name}, cell `{first_line(cell)}`"
        for output in cell.outputs:
            faults += [f"{where}: {fault}" for fault in faults_of(output)]
    no(faults)


def first_line(cell: NotebookNode) -> str:
    """A code cell's first line that is not a directive, for messages."""
    return next((line for line in cell.source.splitlines() if line and not line.startswith("#|")), "")[:60]


def faults_of(output: NotebookNode) -> Iterator[str]:
    """What a reader of a committed output should be spared."""
    encoded = len(output.get("data", {}).get("image/png", ""))
    size = (len(json.dumps(output)) - encoded / 4) / 1000  # a picture's own bytes, not their letters
    if size > OUTPUT_KB:
        yield f"an output of {size:.0f} KB, over {OUTPUT_KB}"
    if output.output_type == "error":
        yield f"it failed with {output.ename}"
    if output.get("name") == "stderr":
        yield f"it wrote to the error stream: {output.text.strip()[:100]!r}"
    data = output.get("data", {})
    if any("widget" in kind for kind in data):
        yield "a widget's view, whose model dies with the kernel: show a picture of it"
    texts = [output.get("text", ""), *(value for kind, value in data.items() if kind.startswith("text/"))]
    for text in texts:
        for what, pattern in RESTLESS.items():
            if match := pattern.search(text):
                yield f"{what} in its output: {match[0]!r}"


def test_restless_outputs_are_found():
    def faults(text: str) -> list[str]:
        return list(faults_of(nbformat.v4.new_output("execute_result", {"text/plain": text})))

    for text in (
        "PosixPath('/tmp/x')",
        "<function f at 0x7f329b804680>",
        "Wall time: 3 s",
        "40%|####",
        "localhost:8888",
    ):
        assert len(faults(text)) == 1, text
    for text in ("0.5 to 1.2", "km/h, and/or", "metro/tmp_station_03.txt", "https://zenodo.org/home/x", "40 % of 3 s"):
        assert faults(text) == [], text
    assert "an output of 70 KB" in faults("x" * 70_000)[0]
    assert "error stream" in next(faults_of(nbformat.v4.new_output("stream", name="stderr", text="warning")))


# --- code -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Source:
    """An exported module: its tree, and the comment on each line."""

    tree: ast.Module
    comments: dict[int, str]

    @classmethod
    @cache
    def of(cls, name: str) -> "Source":
        """The source of a module, such as sedsoft.features."""
        text = (ROOT / name.replace(".", "/")).with_suffix(".py").read_text(encoding="utf-8")
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        comments = {token.start[0]: token.string[1:].strip() for token in tokens if token.type == tokenize.COMMENT}
        return cls(ast.parse(text), comments)

    def functions(self, *, private: bool) -> Iterator[tuple[str, ast.FunctionDef]]:
        """Functions and methods with their dotted names; those inside functions are left out."""
        for node in self.tree.body:
            members = [node] if isinstance(node, ast.FunctionDef) else getattr(node, "body", [])
            prefix = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
            if not private and prefix.startswith("_"):
                continue
            for member in members:
                if isinstance(member, ast.FunctionDef) and (private or is_public(member.name)):
                    yield prefix + member.name, member

    def classes(self) -> Iterator[ast.ClassDef]:
        """Public classes."""
        return (node for node in self.tree.body if isinstance(node, ast.ClassDef) and is_public(node.name))


def is_public(name: str) -> bool:
    """Whether a name is for users: without underscore, or what makes or calls an object."""
    return not name.startswith("_") or name in ("__init__", "__call__", "__getitem__")


def is_property(node: ast.FunctionDef) -> bool:
    """Whether a method reads like an attribute."""
    return any("property" in ast.unparse(decorator) for decorator in node.decorator_list)


def arguments(node: ast.FunctionDef) -> list[ast.arg]:
    """A function's arguments, `self` and `cls` left out."""
    rest = [node.args.vararg, node.args.kwarg]
    found = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, *(arg for arg in rest if arg)]
    return [argument for argument in found if argument.arg not in ("self", "cls")]


def is_dataclass(node: ast.ClassDef) -> bool:
    """Whether a class is decorated as a dataclass."""
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def lacks_shape(annotation: ast.expr | None, comment: str) -> bool:
    """Whether something is an array whose comment names neither a shape nor a unit."""
    text = ast.unparse(annotation) if annotation else ""
    holds_array = re.search(r"\b(Tensor|ndarray)\b", text) and not re.search(r"Callable|dict\[", text)
    shape = re.search(r"\([^()]*,[^()]*\)|\(\)|\([A-Z]\)|\bsame\b|\bscalar\b|\((s|Hz)\)|\bseconds\b|\bHz\b", comment)
    return bool(holds_array) and not shape


def faults_of_function(name: str, node: ast.FunctionDef, comments: dict[int, str]) -> Iterator[str]:
    """What a public function's text lacks."""
    if not ast.get_docstring(node) and node.name != "__init__":
        yield f"{name} has no docstring"
    for argument in arguments(node):
        comment = comments.get(argument.end_lineno, "")
        if argument.annotation is None:
            yield f"{name}({argument.arg}) has no type"
        if not comment and not text_of(argument).startswith("Param("):  # fastcore's: its first argument is the help
            yield f"{name}({argument.arg}) has no comment on its line"
        elif lacks_shape(argument.annotation, comment):
            yield f"{name}({argument.arg}) is an array: its comment lacks a shape or a unit"
    is_command = any(ast.unparse(decorator) == "call_parse" for decorator in node.decorator_list)
    if node.returns is None and node.name != "__init__" and not is_command:
        yield f"{name} does not say what it returns"
    elif node.returns is not None and ast.unparse(node.returns) not in NOTHING and not is_property(node):
        comment = comments.get(node.returns.end_lineno, "")
        if not comment and not says_it_all(node):
            yield f"{name} returns something without a comment"
        elif lacks_shape(node.returns, comment):
            yield f"{name} returns an array: its comment lacks a shape or a unit"


def text_of(argument: ast.arg) -> str:
    """An argument's type as text; empty where it has none."""
    return ast.unparse(argument.annotation) if argument.annotation else ""


def test_what_a_function_does_not_say_is_found():
    code = """
def f(
    a,
    b: Tensor,  # (B, T) logits
    c: np.ndarray,  # some numbers
    d: dict[str, Tensor],
) -> Tensor:  # the loss
    '''It has one.'''
"""
    comments = {4: "(B, T) logits", 5: "some numbers", 7: "the loss"}
    assert list(faults_of_function("f", ast.parse(code).body[0], comments)) == [
        "f(a) has no type",
        "f(a) has no comment on its line",
        "f(c) is an array: its comment lacks a shape or a unit",
        "f(d) has no comment on its line",
        "f returns an array: its comment lacks a shape or a unit",
    ]
    assert list(faults_of_function("g", ast.parse("def g(): pass").body[0], {})) == [
        "g has no docstring",
        "g does not say what it returns",
    ]


def says_it_all(node: ast.FunctionDef) -> bool:
    """Whether a method is so plain that its docstring says what comes back: no arguments of its own."""
    takes_self = bool(node.args.args) and node.args.args[0].arg in ("self", "cls")
    return takes_self and not arguments(node)


@each_module
def test_public_functions_say_what_they_take_and_give(name: str, path: Path):
    source = Source.of(name)
    faults = []
    for function, node in source.functions(private=False):
        faults += faults_of_function(function, node, source.comments)
    for node in source.classes():
        if not ast.get_docstring(node):
            faults.append(f"{node.name} has no docstring")
        for field in node.body if is_dataclass(node) else []:
            if isinstance(field, ast.AnnAssign) and is_public(field.target.id):
                comment = source.comments.get(field.end_lineno, "")
                if not comment:
                    faults.append(f"{node.name}.{field.target.id} has no comment on its line")
                elif lacks_shape(field.annotation, comment):
                    faults.append(f"{node.name}.{field.target.id} is an array: its comment lacks a shape or a unit")
    no([f"{path.name}: {fault}" for fault in faults])


@each_module
def test_functions_are_short_and_take_what_they_name(name: str, path: Path):
    faults = []
    for function, node in Source.of(name).functions(private=True):
        has_docstring = ast.get_docstring(node) is not None
        docstring = node.body[0].end_lineno - node.body[0].lineno + 1 if has_docstring else 0
        n_lines = node.end_lineno - node.lineno + 1 - docstring
        if n_lines > FUNCTION_LINES:
            faults.append(
                f"{path.name}: {function} has {n_lines} lines without its docstring: over {FUNCTION_LINES} it is two"
            )
        if node.args.kwarg and node.args.kwarg.arg in ("kwargs", "kw", "kwds"):
            faults.append(f"{path.name}: {function} takes **{node.args.kwarg.arg}, which swallows misspellings")
    no(faults)


@each_module
def test_library_does_not_print(name: str, path: Path):
    if name == "sedsoft.cli":
        return  # its output is what it is for
    calls = [node for node in ast.walk(Source.of(name).tree) if isinstance(node, ast.Call)]
    no([f"{path.name} prints: {ast.unparse(call)[:80]}" for call in calls if ast.unparse(call.func) == "print"])


@each_module
def test_names_are_those_of_the_word_list(name: str, path: Path):
    source = Source.of(name)
    names = []
    for function, node in source.functions(private=False):
        names += [function, *(argument.arg for argument in arguments(node))]
    for node in source.classes():
        names.append(node.name)
        names += [f"{node.name}.{field.target.id}" for field in node.body if isinstance(field, ast.AnnAssign)]
    faults = []
    for found in names:
        words = re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", found)
        words = [word.lower() for word in words]
        bad = FORBIDDEN & set(words) or FORBIDDEN_PAIRS & set(zip(words, words[1:], strict=False))
        if bad:
            faults.append(f"{path.name}: {found}: the word list has another word for {sorted(bad)[0]!r}")
    no(faults)


@each_module
def test_what_a_module_imports_is_required(name: str, path: Path):
    required = {canonicalize_name(Requirement(text).name) for text in settings()["requirements"].split()}
    faults = []
    for node in ast.walk(Source.of(name).tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
        for top in {name.partition(".")[0] for name in names} - {"sedsoft", *sys.stdlib_module_names}:
            projects = {canonicalize_name(project) for project in packages_distributions().get(top, [])}
            if not projects & required:
                faults.append(f"{path.name} imports {top}, which settings.ini does not require")
    no(faults)


# --- freshness ------------------------------------------------------------------------------------------------------


def test_fresh_export_and_clean_change_nothing(tmp_path: Path):
    for name in ("settings.ini", "setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
    for name in ("nbs", "sedsoft"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=skip)
    before = contents(tmp_path)
    environment = {**os.environ, "HOME": str(tmp_path.parent), "IPYTHONDIR": str(tmp_path.parent / "ipython")}
    for command in ("nbdev_export", "nbdev_clean"):
        subprocess.run([BIN / command], cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=300)
    after = contents(tmp_path)
    no(
        [
            f"{name} is stale: run `make export`"
            for name in before.keys() | after.keys()
            if before.get(name) != after.get(name)
        ]
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its path."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_fresh_readme_is_the_index():
    path = ROOT / SOURCE
    wanted = to_readme(read(path))
    there = {path.relative_to(ROOT).as_posix() for path in (NBS / "images").glob("index_*.png")}
    faults = [f"{name} is not what {SOURCE} gives: run `make readme`" for name in there - wanted.keys()]
    for name, content in wanted.items():
        if not (ROOT / name).exists() or (ROOT / name).read_bytes() != content:
            faults.append(f"{name} is not what {SOURCE} gives: run `make readme`")
    no(faults)


def test_readme_shows_code_outputs_and_pictures():
    png = "iVBORw0KGgo="
    cells = [
        nbformat.v4.new_markdown_cell(
            "# It\n> A line.\n\n[labels](01_labels.ipynb), [licence](../LICENSE), [site](https://a.b/c)"
        ),
        nbformat.v4.new_code_cell("#| hide\nimport os"),
        nbformat.v4.new_code_cell("#| echo: true\n1 + 1"),
        nbformat.v4.new_code_cell("#| hide_input\ndraw()"),
    ]
    cells[2].outputs = [nbformat.v4.new_output("execute_result", {"text/plain": "2", "text/html": "<b>2</b>"})]
    cells[3].outputs = [nbformat.v4.new_output("display_data", {"text/plain": "<Figure>", "image/png": png})]
    files = to_readme(nbformat.v4.new_notebook(cells=cells))
    assert files == {
        "README.md": (
            b"<!-- Made from nbs/index.ipynb by `make readme`: edit that. -->\n\n# It\n> A line.\n\n"
            b"[labels](nbs/01_labels.ipynb), [licence](LICENSE), [site](https://a.b/c)\n\n"
            b"```python\n1 + 1\n```\n\n```text\n2\n```\n\n![index_1](nbs/images/index_1.png)\n"
        ),
        "nbs/images/index_1.png": b"\x89PNG\r\n\x1a\n",
    }


@pytest.mark.parametrize("options", ["check --output-format=concise", "format --check"])
def test_lint(options: str):
    done = subprocess.run([BIN / "ruff", *options.split(), "--quiet"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"`make lint` finds\n{done.stdout}{done.stderr}", pytrace=False)


# --- what the texts name --------------------------------------------------------------------------------------------


def texts() -> dict[str, str]:
    """All that is written for readers: the pages at the root, and the chapters' prose and code."""
    pages = {path.name: path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("*.md"))}
    for path in chapters():
        pages[path.name] = "\n\n".join(cell.source for cell in read(path).cells)
    return pages


def test_commands_that_are_quoted_exist():
    scripts = dict(entry.split("=") for entry in settings()["console_scripts"].split())
    options = {command: options_of(target) for command, target in scripts.items()}
    faults = []
    for page, text in texts().items():
        for line in text.splitlines():
            for match in re.finditer(r"\bsedsoft_[a-z]+\b(?![\w.(])([^`|&;#]*)", line):
                command = match[0].split()[0]
                if command not in scripts:
                    faults.append(f"{page}: there is no command {command}")
                    continue
                for option in re.findall(r"(?<![\w-])--([a-z_]+)", match[1]):
                    if option not in options[command]:
                        faults.append(f"{page}: {command} has no option --{option}")
    no(faults)


def options_of(target: str) -> set[str]:
    """The options of a command, from the function that it calls."""
    module, _, function = target.partition(":")
    return {"help", *inspect.signature(inspect.unwrap(getattr(import_module(module), function))).parameters}


def test_make_targets_that_are_quoted_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    faults = []
    for page, text in texts().items():
        quoted = re.findall(r"(?:`|^)make ([a-z]+)\b", text, re.MULTILINE)
        faults += [f"{page}: there is no `make {target}`" for target in quoted if target not in targets]
    no(faults)


def test_make_lists_every_target():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())
    done = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert listed == phony == set(re.findall(r"^([a-z]+):", text, re.MULTILINE))


def test_links_lead_somewhere():
    pages = [(path, path.read_text(encoding="utf-8")) for path in sorted(ROOT.glob("*.md"))]
    for path in chapters():
        pages += [(path, cell.source) for cell in read(path).cells if cell.cell_type == "markdown"]
    faults = []
    for path, text in pages:
        for target in re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text):
            if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                faults.append(f"{path.name}: a link leads to {target}, which is not there")
    no(faults)


def test_folder_of_the_same_name_hides_nothing(tmp_path: Path):
    (tmp_path / "sedsoft" / "runs").mkdir(parents=True)
    (tmp_path / "ten.py").write_text("from sedsoft.runs import Config; print(Config().name)")
    done = subprocess.run([sys.executable, tmp_path / "ten.py"], capture_output=True, text=True)
    assert done.stdout == "crnn\n", done.stderr
