"""Every setting has an effect: change one, and something that is built from it changes."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toy import toy_config, write_toy

import sedsoft.experiment as experiment
from sedsoft.core import with_settings
from sedsoft.corpus import Corpus, describe
from sedsoft.experiment import gather, train_fold
from sedsoft.runs import Config, find_config, start_run

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
    "training.sequence_s": "3.0",
    "training.join": "true",
    "training.threads": "2",
    "training.device": "cuda:7",
}
ALSO = {"features.sr": ("features.f_max_hz=4000.0", "features.hop=1600", "features.win=3200")}  # frames as before


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
    run = start_run(folder, config, describe(corpus))
    with experiment.n_threads(config.training.threads):
        material = gather(corpus, config)
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
    config = with_settings(base(), (f"{setting}={OTHER[setting]}", *ALSO.get(setting, ())))
    if setting == "training.device":
        with pytest.raises(ValueError, match='device "cuda:7"'):
            outcome(config, toy, tmp_path / "run")
    else:
        assert outcome(config, toy, tmp_path / "run") != usual


@pytest.mark.parametrize(
    "settings",
    [
        ("features.sr=44100", "features.hop=8820", "features.win=17640", "features.f_max_hz=14000.0"),
        ("loss.name=bce", "model.activation=sigmoid"),
    ],
)
def test_settings_that_belong_together_are_changed_in_any_order(settings: tuple[str, ...]):
    baseline = find_config("baseline")
    assert with_settings(baseline, settings) == with_settings(baseline, settings[::-1]) != baseline
    with pytest.raises(ValueError, match="hop is 3200|bce"):
        with_settings(baseline, settings[:1])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.sequence_s=0.01", "sequence_s is 0.01, must be finite and at least 1 s"),
        ("training.sequence_s=inf", "sequence_s is inf, must be finite"),
        ("training.sequence_s=nan", "sequence_s is nan, must be finite"),
        ("training.learning_rate=inf", "learning_rate is inf, must be above 0 and finite"),
        ("training.learning_rate=nan", "learning_rate is nan, must be above 0 and finite"),
        ("training.lr_factor=nan", "lr_factor is nan, must be in"),
    ],
)
def test_numbers_that_train_nothing_are_refused(setting: str, words: str):
    with pytest.raises(ValueError, match=words):
        with_settings(Config(), [setting])
