"""The commands as a person calls them: what they print, what they leave, how they end."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from toy import toy_config, write_toy

import sedsoft.cli as cli
from sedsoft.audio import read_audio, write_audio
from sedsoft.core import progress, write_config
from sedsoft.corpus import Corpus
from sedsoft.runs import open_run
from sedsoft.soundscapes import SoundscapeSpec, write_soundscapes

COMMANDS = ("sedsoft_prepare", "sedsoft_train", "sedsoft_evaluate", "sedsoft_ablate", "sedsoft_report", "sedsoft_demo")


def call(command: str, *arguments: object) -> subprocess.CompletedProcess:
    """Call a command in a process of its own."""
    program = Path(sys.executable).with_name(command)
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(autouse=True)
def _own_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEDSOFT_CACHE", str(folder / "cache"))


@pytest.fixture(scope="module")
def toy(folder: Path) -> Corpus:
    return write_toy(folder / "toy")


@pytest.fixture(scope="module")
def trained(folder: Path, toy: Corpus) -> subprocess.CompletedProcess:
    """A run on two folds, by command."""
    write_config(folder / "toy.toml", toy_config())
    arguments = ("--data", toy.root, "--out", folder / "run", "--folds", "2,1,1", "--seed", "7")
    return call("sedsoft_train", folder / "toy.toml", *arguments, "--set", "training.epochs=2", "--set", "name=tiny")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_reads_like_the_docs(command: str):
    done = call(command, "--help")
    assert done.returncode == 0
    assert getattr(cli, command).__doc__.split(":")[0] in " ".join(done.stdout.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_misuse_ends_with_two(command: str):
    done = call(command, "--no_such_option")
    assert done.returncode == 2
    assert "usage:" in done.stderr


def test_prepare_summarises(toy: Corpus):
    done = call("sedsoft_prepare", toy.root)
    assert done.returncode == 0
    assert "6 recordings, 1.0 minutes, nothing wrong" in done.stdout
    assert "buzz" in done.stdout
    assert "folds: made by recording and scene" in done.stdout


def test_prepare_lists_everything_wrong(tmp_path: Path):
    write_toy(tmp_path / "toy")
    table = tmp_path / "toy" / "labels.csv"
    lines = table.read_text().splitlines()
    lines[1] = lines[1].replace("1.0", "1.5")
    lines[2] = lines[2].replace("park_0", "park_9")
    table.write_text("\n".join(lines))
    (tmp_path / "toy" / "audio" / "street_1.wav").write_bytes(b"")
    done = call("sedsoft_prepare", tmp_path / "toy")
    assert done.returncode == 1
    assert "problems" in done.stderr
    for words in ("labels.csv, line 2", "1.5", "park_9", "street_1.wav"):
        assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_train_says_what_it_does_and_ends_with_a_report(trained: subprocess.CompletedProcess, folder: Path):
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.startswith("tiny, seed 7: folds 1, 2 of 6 recordings")
    for words in ("up to 2 epochs", "F1_MO", "validated F1", "buzz", "report.html"):
        assert words in trained.stdout
    assert (folder / "run" / "report.html").is_file()
    metrics = json.loads((folder / "run" / "metrics.json").read_text())
    assert metrics["folds"] == [1, 2]
    assert set(metrics["per_class"]) == {"buzz", "hiss"}


def test_a_log_tells_how_far_it_is(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    assert "counting: 100%" in capsys.readouterr().err
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert list(progress(range(3), "counting")) == [0, 1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("trained")
def test_evaluate_a_run_and_the_scores_of_a_stranger(folder: Path, toy: Corpus):
    figures = folder / "figures.json"
    run = call("sedsoft_evaluate", folder / "run", "--data", toy.root, "--json", figures, "--against", folder / "run")
    assert run.returncode == 0, run.stderr
    assert "= +0.00 points" in run.stdout
    assert json.loads(figures.read_text())["against"]["f1_mo"]["difference"] == 0
    done = call("sedsoft_train", folder / "toy.toml", "--data", toy.root, "--out", folder / "all")
    assert done.returncode == 0, done.stderr
    scores = call("sedsoft_evaluate", folder / "all" / "scores", "--data", toy.root, "--json", figures)
    assert scores.returncode == 0, scores.stderr
    assert "these scores bring no thresholds" in scores.stdout
    metrics = json.loads((folder / "all" / "metrics.json").read_text())
    foreign = json.loads(figures.read_text())
    assert foreign["f1_mo"] == metrics["f1_mo"]
    assert foreign["f1_validated"] is None
    (folder / "all" / "scores" / "park_0.tsv").rename(folder / "park_0.tsv")
    missing = call("sedsoft_evaluate", folder / "all" / "scores", "--data", toy.root)
    assert missing.returncode == 1
    assert "park_0" in missing.stderr


@pytest.mark.usefixtures("trained")
def test_a_run_of_some_folds_against_scores_of_all(folder: Path, toy: Corpus, capsys: pytest.CaptureFixture):
    shutil.copytree(folder / "run", folder / "part")
    (folder / "part" / "fold2" / "thresholds.json").unlink()
    cli.sedsoft_evaluate(folder / "part", data=toy.root, against=folder / "run" / "scores")
    said = capsys.readouterr().out
    assert "= +0.00 points" in said


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize(("ours", "other"), [("part", "run"), ("run", "part")])
def test_runs_are_compared_on_the_folds_that_both_have(
    ours: str, other: str, folder: Path, tmp_path: Path, toy: Corpus, capsys: pytest.CaptureFixture
):
    for name in ("run", "part"):
        shutil.copytree(folder / "run", tmp_path / name)
    (tmp_path / "part" / "fold2" / "thresholds.json").unlink()
    cli.sedsoft_evaluate(tmp_path / ours, data=toy.root, against=tmp_path / other)
    said = capsys.readouterr().out
    both = ", ".join(str(fold) for fold in open_run(folder / "run").folds if fold != 2)
    assert f"against {tmp_path / other}, folds {both}\nF1_MO" in said
    assert "= +0.00 points" in said


@pytest.mark.usefixtures("trained")
@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"half'])
@pytest.mark.parametrize(
    "name", ["metrics.json", "environment.json", "corpus.json", "fold1/thresholds.json", "fold1/history.csv"]
)
def test_a_damaged_run_is_named_in_a_line(name: str, content: bytes, folder: Path, tmp_path: Path):
    shutil.copytree(folder / "run", tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(SystemExit, match=rf"sedsoft: .*run/{name}.*: (not JSON|damaged).*") as end:
        cli.sedsoft_report(tmp_path / "run")
    assert len(str(end.value).splitlines()) == 1


@pytest.mark.usefixtures("trained")
def test_report_again(folder: Path):
    page = folder / "run" / "report.html"
    before = page.read_bytes()
    page.unlink()
    done = call("sedsoft_report", folder / "run")
    assert done.returncode == 0, done.stderr
    assert page.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["baselin", "--data", "{toy}", "--out", "{new}"], 'unknown configuration "baselin"; nearest: "baseline"'),
        (["demo", "--data", "{new}", "--out", "{new}"], "no such folder"),
        (["demo", "--data", "{toy}", "--out", "{toy}"], "is not empty, and no run"),
        (["demo", "--data", "{toy}", "--out", "{new}", "--folds", "9"], "fold is 9, must be one of 1, 2, 3, 4, 5"),
        (["demo", "--data", "{toy}", "--out", "{new}", "--folds", "one"], '--folds is "one"'),
        (["demo", "--data", "{toy}", "--out", "{new}", "--set", "training.epoch=2"], 'nearest: "epochs"'),
        (["demo", "--data", "{toy}", "--out", "{new}", "--set", "training.epochs=0"], "epochs is 0"),
        (["demo", "--data", "{toy}", "--out", "{new}", "--set", "features.hop=4800"], "hop is 4800"),
    ],
)
def test_refusals_are_one_message_and_leave_nothing(arguments: list[str], words: str, toy: Corpus, tmp_path: Path):
    places = {"toy": toy.root, "new": tmp_path / "new"}
    done = call("sedsoft_train", *[argument.format(**places) for argument in arguments])
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., str]:
    """The demo with short soundscapes and one epoch: call it, get what it printed."""
    spec = SoundscapeSpec(duration_s=10.0)
    monkeypatch.setattr(cli, "find_config", lambda name: toy_config("training.epochs=1"))

    def write(root: Path, clips: Path | None, n_jobs: int) -> None:
        write_soundscapes(root, spec=spec, clips=clips, n_jobs=1)

    def run(out: Path, **arguments: object) -> str:
        cli.sedsoft_demo(out=out, **arguments)
        said = capsys.readouterr()
        return said.out + said.err

    monkeypatch.setattr(cli, "write_soundscapes", write)
    return run


def test_demo_goes_on_where_it_was_killed_and_shows_what_is_finished(tmp_path: Path, demo: Callable[..., str]):
    out, corpus = tmp_path / "demo", tmp_path / "demo_corpus"
    first = demo(out)
    assert first.startswith(f"soundscapes: {corpus}")
    assert "folds 1, 2, 3, 4, 5 of 25 recordings" in first
    page = (out / "report.html").read_bytes()
    made = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    for killed_at in (sorted(corpus.glob("development_folds/fold[345]_*")), [*corpus.rglob("city_center_03.flac")]):
        for path in killed_at:
            path.unlink()
        again = demo(out)
        assert f"{out} is finished" in again
        for said in (first, again):
            assert "What to look at" in said
            assert "brakes_squeaking" in said
        assert {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()} == made
    assert (out / "report.html").read_bytes() == page


def test_demo_sounds_what_it_is_given(tmp_path: Path, demo: Callable[..., str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli, "train_unless_finished", lambda config, corpus, out, folds=None: None)
    with pytest.raises(SystemExit, match="nowhere: is no folder"):
        demo(tmp_path / "demo", sounds=tmp_path / "nowhere")
    assert not (tmp_path / "demo_corpus").exists()
    time_s = np.arange(16000) / 16000
    clip = np.sin(2 * np.pi * 3000 * time_s).astype(np.float32)
    write_audio(tmp_path / "clips" / "car" / "1.wav", clip, 16000)
    said = demo(tmp_path / "real", sounds=tmp_path / "clips")
    assert f"sedsoft: warning: {tmp_path / 'clips'} has no clips of: birds_singing, people talking" in said
    assert f"sedsoft: warning: {tmp_path / 'clips'} has clips from fewer than 5 sources of: car; theirs" in said
    assert "UserWarning" not in said
    street = read_audio(tmp_path / "real_corpus" / "development_audio" / "city_center" / "city_center_00.flac", 16000)
    power = np.abs(np.fft.rfft(street)) ** 2  # a bin is 0.1 Hz
    assert np.argmax(power[20_000:40_000]) + 20_000 == pytest.approx(30_000, abs=100)
    (tmp_path / "clips" / "car" / "1.wav").rename(tmp_path / "clips" / "car" / "2.wav")
    for sounds in (tmp_path / "clips", tmp_path / "nowhere", None):
        with pytest.raises(SystemExit, match="real_corpus: is there and is not this corpus|nowhere: is no folder"):
            demo(tmp_path / "real", sounds=sounds)
