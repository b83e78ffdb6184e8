"""Every setting has an effect: change one, and something that is built from it changes."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toy import toy_config, write_toy

import sedsoft.experiment as experiment
from sedsoft.core import with_setting
from sedsoft.corpus import Corpus
from sedsoft.experiment import gather, train_fold
from sedsoft.runs import Config, start_run

OTHER = {
    "name": "other",
    "seed": "1",
    "features.sr": "8000",
    "features.hop": "1600",
    "features.win": "8000",
    "features.n_mels": "48",
    "features.f_min_hz": "100.0",
    "features.f_max_hz": "6000.0",
    "features.scale": "linear",
    "features.centred": "true",
    "features.standardise": "false",
    "model.activation": "linear",
    "model.backbone.n_filters": "6",
    "model.backbone.pools": "[4, 2, 2]",
    "model.backbone.dropout": "0.5",
    "model.backbone.n_gru": "8",
    "model.backbone.n_linear": "16",
    "loss.name": "bce",
    "training.epochs": "5",
    "training.batch_size": "1",
    "training.learning_rate": "0.02",
    "training.lr_factor": "0.5",
    "training.lr_patience": "2",
    "training.stop_patience": "2",
    "training.sequence_s": "5.0",
    "training.join": "true",
    "training.threads": "2",
    "training.device": "cuda:7",
}
ALSO = {"features.sr": ("features.f_max_hz=4000.0", "features.hop=800", "features.win=1600")}


def leaves(config: Config, prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        yield from leaves(value, f"{prefix}{field.name}.") if dataclasses.is_dataclass(value) else [prefix + field.name]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return write_toy(tmp_path_factory.mktemp("toy"), n_recordings=5, n_segments=7)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEDSOFT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def outcome(config: Config, corpus: Corpus, folder: Path) -> tuple:
    """Losses and shapes of a short training, and the number of threads it had."""
    run = start_run(folder, config, {"fingerprint": "", "folds": corpus.folds, "recordings": []})
    with experiment.n_threads(config.training.threads):
        material = gather(corpus, config.features)
        threads = torch.get_num_threads()
        records = [epoch.record for epoch in train_fold(run, corpus, material, 1)]
    shapes = {features.shape for features in material.features.values()}
    return tuple(records), tuple(shapes), threads, (folder / "config.toml").read_text().splitlines()[0]


def base() -> Config:
    """A configuration whose loss never improves after the first epochs, so that patience has something to do."""
    return toy_config("loss.name=mse", "training.epochs=4", "training.learning_rate=0.3", "training.lr_patience=1")


def test_every_setting_is_tried():
    assert set(OTHER) == set(leaves(Config()))


@pytest.fixture(scope="module")
def usual(toy: Corpus, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return outcome(base(), toy, tmp_path_factory.mktemp("usual") / "run")


@pytest.mark.parametrize("setting", OTHER)
def test_setting_has_an_effect(setting: str, toy: Corpus, usual: tuple, tmp_path: Path):
    config = base()
    for other in (*ALSO.get(setting, ()), f"{setting}={OTHER[setting]}"):
        config = with_setting(config, other)
    if setting == "training.device":
        with pytest.raises(ValueError, match='device "cuda:7"'):
            outcome(config, toy, tmp_path / "run")
    else:
        assert outcome(config, toy, tmp_path / "run") != usual
