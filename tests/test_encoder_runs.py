"""Experiments with a network of transformers in them, frozen and tuned, as query and as feature."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import toy_config, write_toy
from toy_encoder import save_small

from sedsoft.core import FileError, make_torch_seed, with_settings
from sedsoft.corpus import Corpus
from sedsoft.encoders import load_encoder
from sedsoft.experiment import run_experiment, score_file
from sedsoft.models import build_model, load_detector
from sedsoft.runs import Run
from sedsoft.scores import read_scores

USES = {
    "feature": (),
    "query": (
        "model.attention.query=encoder",
        "model.attention.context_s=3",
        "model.scoring.form=overlapping",
        "model.scoring.length_s=8.0",
        "model.scoring.margin_s=2.0",
    ),
}


@dataclass(frozen=True)
class Trained:
    """A run of one fold, and what it was made of."""

    run: Run
    corpus: Corpus
    encoder: Path  # the folder of the encoder's files
    is_tuned: bool

    @property
    def tested(self) -> Path:
        """Audio of a test recording of fold 1."""
        return self.corpus.split(1, "test")[0].audio


@pytest.fixture(autouse=True, scope="module")
def _own_cache(tmp_path_factory: pytest.TempPathFactory):
    """Keep features away from the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEDSOFT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """One small corpus for all runs."""
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(
    scope="module",
    params=[(use, is_tuned) for use in USES for is_tuned in (False, True)],
    ids=lambda param: f"{param[0]}-{'tuned' if param[1] else 'frozen'}",
)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, toy: Corpus) -> Trained:
    """Fold 1 of the toy corpus, trained for two epochs."""
    (use, is_tuned), folder = request.param, tmp_path_factory.mktemp("encoder_run")
    encoder = save_small(folder / "small")
    config = toy_config(
        f"model.encoder.name={encoder}",
        f"model.encoder.use={use}",
        f"model.encoder.is_tuned={str(is_tuned).lower()}",
        "model.encoder.n_hidden=[9, 8, 32]",
        "training.epochs=2",
        *USES[use],
    )
    return Trained(run_experiment(folder / "run", config, toy, [1]), toy, encoder, is_tuned)


def test_a_file_is_scored_as_in_the_experiment(trained: Trained):
    kept = read_scores(trained.run.path / "scores" / f"{trained.tested.stem}.tsv")
    scores = score_file(trained.run.path, trained.tested)
    assert scores.classes == kept.classes
    np.testing.assert_allclose(scores.values, kept.values, atol=2e-6)
    assert np.ptp(scores.values, axis=0).min() > 0


def test_an_encoder_that_cannot_be_had_leaves_nothing_behind(trained: Trained, tmp_path: Path):
    nowhere = with_settings(trained.run.config, [f"model.encoder.name={tmp_path / 'nowhere'}"])
    with pytest.raises(FileError, match="nowhere: is neither a folder nor a name of the hub"):
        run_experiment(tmp_path / "run", nowhere, trained.corpus, [1])
    assert not (tmp_path / "run").exists()


def test_the_encoder_is_trained_if_it_is_tuned_and_its_head_always(trained: Trained):
    detector, config = load_detector(trained.run.fold(1)), trained.run.config
    seed = make_torch_seed(config.seed, "weights", 1)
    first = build_model(config.model, detector.shapes, seed, load_encoder(str(trained.encoder))).state_dict()
    parts = {"wave": set(), "head": set()}
    for name, parameter in detector.model.encoder.named_parameters():
        if not torch.equal(parameter, first[f"encoder.{name}"]):
            parts[name.split(".")[0]].add(name)
    assert {name.split(".")[1] for name in parts["head"]} == {"hidden", "query"}
    modules = {name.split(".")[2] for name in parts["wave"]}
    assert modules == ({"feature_projection", "encoder"} if trained.is_tuned else set())
    assert any(name.startswith("encoder.wave.") for name in first) == trained.is_tuned


def test_the_encoders_files_are_left_alone(trained: Trained, tmp_path: Path):
    fresh = save_small(tmp_path / "small")
    assert load_encoder(str(trained.encoder)).identity == load_encoder(str(fresh)).identity


def test_what_is_scored_depends_on_the_encoder(trained: Trained, monkeypatch: pytest.MonkeyPatch):
    import sedsoft.experiment as experiment

    before, read = score_file(trained.run.path, trained.tested).values, experiment.read_extras
    monkeypatch.setattr(experiment, "read_extras", lambda *given: read(*given)[::-1].copy())
    assert np.abs(score_file(trained.run.path, trained.tested).values - before).max() > 1e-5


def test_changed_files_are_refused_where_they_are_needed(trained: Trained, tmp_path: Path):
    before = score_file(trained.run.path, trained.tested).values
    trained.encoder.rename(tmp_path / "kept")
    try:
        if trained.is_tuned:  # its weights are in the run
            np.testing.assert_array_equal(score_file(trained.run.path, trained.tested).values, before)
            return
        with pytest.raises(FileError, match="is neither a folder nor a name of the hub"):
            score_file(trained.run.path, trained.tested)
        save_small(trained.encoder, seed=1)
        with pytest.raises(FileError, match="small: is not the encoder that this run was trained with: its files have"):
            score_file(trained.run.path, trained.tested)
        for path in trained.encoder.iterdir():
            path.unlink()
        trained.encoder.rmdir()
    finally:
        (tmp_path / "kept").rename(trained.encoder)
    np.testing.assert_array_equal(score_file(trained.run.path, trained.tested).values, before)


def test_folds_with_unlike_encoders_are_refused(trained: Trained, tmp_path: Path):
    if trained.is_tuned:
        return  # each fold has its own, as it should
    run = tmp_path / "run"
    shutil.copytree(trained.run.path, run)
    shutil.copytree(run / "fold1", run / "fold2")
    config = run / "fold2" / "config.json"
    identity = load_detector(run / "fold2").encoder["identity"]
    config.write_text(config.read_text().replace(identity, "0" * 40))
    with pytest.raises(FileError, match="small: is not the encoder that this run was trained with"):
        score_file(run, trained.tested)


def test_a_finished_run_is_left_as_it_is(trained: Trained):
    weights = trained.run.fold(1) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    run_experiment(trained.run.path, trained.run.config, trained.corpus, [1])
    assert weights.stat().st_mtime_ns == before
