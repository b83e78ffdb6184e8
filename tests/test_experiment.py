"""Training that is killed, folders that are not ours, a disk that is full: nothing is lost, nothing is half written."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import toy_config, write_toy

import sedsoft.experiment as experiment
from sedsoft.core import FileError, make_rng, write_config
from sedsoft.corpus import Corpus, describe
from sedsoft.evaluation import evaluate
from sedsoft.experiment import gather, run_experiment, train_fold
from sedsoft.models import load_detector
from sedsoft.report import write_report
from sedsoft.runs import locked, open_run, read_history, start_run
from sedsoft.scores import read_scores

TRAIN = (
    "import sys; from sedsoft.cli import sedsoft_train; sedsoft_train(sys.argv[1], data=sys.argv[2], out=sys.argv[3])"
)


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """One small corpus for all tests of this file."""
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep features away from the user's cache."""
    monkeypatch.setenv("SEDSOFT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def files(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, apart from the pages that name it."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".html", ".png", ".svg")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_killed_runs_end_like_one_that_was_left_alone(toy: Corpus, tmp_path: Path):
    config = toy_config("training.epochs=6")
    write_config(tmp_path / "toy.toml", config)
    arguments = [sys.executable, "-c", TRAIN, str(tmp_path / "toy.toml"), str(toy.root)]
    subprocess.run([*arguments, str(tmp_path / "whole")], check=True, capture_output=True)
    out = tmp_path / "killed"
    n_kills = 0
    for n_epochs in (2, 9, 20):
        process = subprocess.Popen([*arguments, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and _n_epochs(out) < n_epochs:
            time.sleep(0.005)
        n_kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert n_kills == 3
    assert 20 <= _n_epochs(out) < 30
    subprocess.run([*arguments, str(out)], check=True, capture_output=True)
    whole, killed = files(tmp_path / "whole"), files(out)
    assert whole.keys() == killed.keys()
    assert [name for name in whole if whole[name] != killed[name]] == []


class Killed(BaseException):
    """What ends a process here; nothing catches it."""


@pytest.mark.parametrize(
    ("name", "call", "after"),
    [
        ("state_to_file", 3, True),
        ("write_history", 3, True),
        ("save_detector", 1, True),
        ("write_scores", 1, True),
        ("write_scores", 3, True),
        ("write_thresholds", 1, True),
        ("shutil.rmtree", 1, False),
        ("evaluate", 1, False),
    ],
)
def test_a_kill_between_two_writes_loses_nothing(
    name: str, call: int, after: bool, toy: Corpus, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    owner, attribute = (experiment.shutil, "rmtree") if name == "shutil.rmtree" else (experiment, name)
    function, n_calls = getattr(owner, attribute), 0

    def killed(*arguments: object, **named: object) -> object:
        nonlocal n_calls
        n_calls += 1
        if n_calls == call and not after:
            raise Killed
        given = function(*arguments, **named)
        if n_calls == call:
            raise Killed
        return given

    with monkeypatch.context() as patch:
        patch.setattr(owner, attribute, killed)
        with pytest.raises(Killed):
            run_experiment(tmp_path / "run", toy_config(), toy, [1])
    run_experiment(tmp_path / "run", toy_config(), toy, [1])
    assert files(tmp_path / "run") == files(whole)
    assert folders(tmp_path / "run") == folders(whole)


@pytest.fixture(scope="module")
def whole(toy: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One fold that nothing interrupted."""
    return run_experiment(tmp_path_factory.mktemp("whole") / "run", toy_config(), toy, [1]).path


def folders(folder: Path) -> set[str]:
    """All folders in a folder, the empty ones too."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_dir()}


def _n_epochs(out: Path) -> int:
    """Epochs that a run has on record."""
    return len(read_history(open_run(out))) if (out / "config.toml").is_file() else 0


def test_run_folder_is_as_drawn(toy: Corpus, tmp_path: Path):
    run = run_experiment(tmp_path / "run", toy_config(), toy, folds=[1, 3])
    write_report(run)
    tested = {name for fold in (1, 3) for name in toy.folds[fold].test}
    top = {".lock", ".lock1", ".lock3", "config.toml", "corpus.json", "environment.json", "metrics.json", "report.html"}
    assert {path.name for path in run.path.iterdir() if path.is_file()} == top
    assert {path.name for path in run.path.iterdir() if path.is_dir()} == {
        "fold1", "fold3", "scores", "embeddings", "figures",
    }  # fmt: skip
    assert {path.stem for path in (run.path / "scores").iterdir()} == tested
    assert {path.stem for path in (run.path / "embeddings").iterdir()} == tested
    for fold in (1, 3):
        own = {
            "model.safetensors",
            "config.json",
            "thresholds.json",
            "calibration.json",
            "history.csv",
            "validation_scores",
        }
        assert {path.name for path in run.fold(fold).iterdir()} == own
        validated = {path.stem for path in (run.fold(fold) / "validation_scores").iterdir()}
        assert validated == set(toy.folds[fold].val)
        assert load_detector(run.fold(fold)).classes == toy.classes
    name = next(iter(tested))
    scores = read_scores(run.path / "scores" / f"{name}.tsv")
    assert scores.classes == toy.classes
    assert scores.edges_s[-1] == toy[name].n_segments


def test_folds_added_later_join_the_run(toy: Corpus, tmp_path: Path):
    run_experiment(tmp_path / "run", toy_config(), toy, folds=[2])
    before = files(tmp_path / "run" / "fold2")
    run = run_experiment(tmp_path / "run", toy_config(), toy)
    assert run.folds == (1, 2, 3, 4, 5)
    assert files(tmp_path / "run" / "fold2") == before
    assert len(list((run.path / "scores").iterdir())) == len(toy.recordings)


def test_intervals_are_drawn_as_the_command_draws_them(toy: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    states = []

    def watched(judged, rng):
        states.append(rng.bit_generator.state)
        return evaluate(judged, rng)

    monkeypatch.setattr(experiment, "evaluate", watched)
    run_experiment(tmp_path / "run", replace(toy_config(), seed=3), toy, folds=[2])
    assert states == [make_rng(0, "intervals").bit_generator.state]


def test_two_trainings_do_not_share_a_folder(toy: Corpus, tmp_path: Path):
    config, out = toy_config("training.epochs=500", "training.stop_patience=500"), tmp_path / "run"
    write_config(tmp_path / "toy.toml", config)
    arguments = [sys.executable, "-c", TRAIN, str(tmp_path / "toy.toml"), str(toy.root), str(out)]
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and _n_epochs(out) < 1:
            time.sleep(0.01)
        (out / ".metrics.abc.partial.json").touch()
        with pytest.raises(FileError, match="run: another process is training in it"):
            run_experiment(out, config, toy, folds=[2])
        assert (out / ".metrics.abc.partial.json").exists()
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    with locked(open_run(out)):
        assert not (out / ".metrics.abc.partial.json").exists()


def test_same_seed_same_figures_other_seed_others(toy: Corpus, tmp_path: Path):
    runs = [
        run_experiment(tmp_path / f"run{k}", replace(toy_config(), seed=seed), toy, folds=[1])
        for k, seed in enumerate((5, 5, 6))
    ]
    first, again, other = ((run.path / "fold1" / "model.safetensors").read_bytes() for run in runs)
    assert first == again != other


def test_saved_weights_are_the_best_epochs(toy: Corpus, tmp_path: Path):
    config = toy_config("training.learning_rate=0.3", "training.epochs=6")
    run = start_run(tmp_path / "run", config, describe(toy))
    epochs = list(train_fold(run, toy, gather(toy, config), 1))
    best = int(np.argmin([epoch.record.val_loss for epoch in epochs]))
    assert best < len(epochs) - 1
    saved = load_detector(run.fold(1)).model.state_dict()
    assert saved.keys() == epochs[best].state.model.keys()
    assert all(torch.equal(saved[name], weights) for name, weights in epochs[best].state.model.items())
    assert not all(torch.equal(saved[name], weights) for name, weights in epochs[-1].state.model.items())


def test_training_has_the_threads_of_the_config(toy: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen, before = [], torch.get_num_threads()

    def watched(*arguments):
        for epoch in train_fold(*arguments):
            seen.append(torch.get_num_threads())
            yield epoch

    monkeypatch.setattr(experiment, "train_fold", watched)
    for n_threads in (1, 2):
        config = toy_config(f"training.threads={n_threads}", "training.epochs=1")
        run_experiment(tmp_path / f"run{n_threads}", config, toy, folds=[1])
    assert seen == [1, 2]
    assert torch.get_num_threads() == before


def test_folder_of_another_run_is_refused_and_untouched(toy: Corpus, tmp_path: Path):
    run_experiment(tmp_path / "run", toy_config(), toy, folds=[1])
    before = files(tmp_path / "run")
    with pytest.raises(FileError, match=r"run: holds another run \(training.batch_size is 2 there, 3 was asked for\)"):
        run_experiment(tmp_path / "run", toy_config("training.batch_size=3"), toy)
    assert files(tmp_path / "run") == before


def test_full_disk_stops_the_run_and_loses_nothing(toy: Corpus, tmp_path: Path):
    write_config(tmp_path / "toy.toml", toy_config())
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000)); " + TRAIN
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    arguments = [str(tmp_path / "toy.toml"), str(toy.root), str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-c", limited, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 1
    assert "training.safetensors: could not be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert not any(path.stat().st_size >= 60_000 for path in (tmp_path / "run").rglob("*") if path.is_file())
    subprocess.run([sys.executable, "-c", TRAIN, *arguments], check=True, capture_output=True)
    assert open_run(tmp_path / "run").folds == (1, 2, 3, 4, 5)
