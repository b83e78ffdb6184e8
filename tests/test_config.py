"""Every setting has an effect: change one, and something that is built from it changes."""

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from toy import toy_config, write_toy

import sedsoft.experiment as experiment
from sedsoft.attention import AttentionSpec
from sedsoft.augment import AugmentationSpec, MaskSpec, WaveformSpec
from sedsoft.core import with_settings
from sedsoft.corpus import Corpus, describe
from sedsoft.crnn import CRNNSpec
from sedsoft.encoders import EncoderSpec
from sedsoft.experiment import finish_fold, gather, run_experiment, train_fold
from sedsoft.models import ModelSpec, ScoringSpec
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
    "model.per_segment": "true",
    "model.n_networks": "2",
    "model.backbone.n_filters": "6",
    "model.backbone.pools": "[4, 2, 2]",
    "model.backbone.dropout": "0.5",
    "model.backbone.n_gru": "8",
    "model.backbone.n_linear": "16",
    "model.backbone.block": "5",
    "model.backbone.quiet": "0.2",
    "model.attention.form": "windowed",
    "model.attention.context_s": "3",
    "model.attention.score": "additive",
    "model.attention.query": "crnn",
    "model.attention.fusion": "shift",
    "model.attention.edge": "mask",
    "model.attention.n_hidden": "5",
    "model.encoder.name": "toy_encoder:loudness",
    "model.encoder.use": "query",
    "model.encoder.is_tuned": "true",
    "model.encoder.n_hidden": "[9, 8, 32]",
    "model.encoder.dropout": "0.6",
    "model.scoring.form": "chunks",
    "model.scoring.length_s": "5.0",
    "model.scoring.margin_s": "0.0",
    "model.scoring.softmax": "true",
    "loss.name": "bce",
    "loss.gamma": "0.5",
    "loss.alpha": "2.0",
    "loss.scene_weight": "1.0",
    "loss.sharpness": "10.0",
    "augmentation.n_copies": "2",
    "augmentation.copy_share": "0.9",
    "augmentation.waveform.pitch_cents": "100.0",
    "augmentation.waveform.clip_from": "0.9",
    "augmentation.waveform.room": "50.0",
    "augmentation.waveform.pitch_probability": "0.1",
    "augmentation.waveform.clip_probability": "0.0",
    "augmentation.waveform.reverb_probability": "0.1",
    "augmentation.waveform.piece_s": "2.0",
    "augmentation.masks.n_masks": "1",
    "augmentation.masks.bands": "0.5",
    "augmentation.masks.frames": "0.5",
    "augmentation.masks.probability": "0.2",
    "augmentation.masks.fill": "zero",
    "training.epochs": "5",
    "training.batch_size": "1",
    "training.learning_rate": "0.02",
    "training.weight_decay": "0.5",
    "training.schedule": "one_cycle",
    "training.keep": "last",
    "training.lr_factor": "0.5",
    "training.lr_patience": "2",
    "training.stop_patience": "2",
    "training.sequence_s": "3.0",
    "training.join": "true",
    "training.random_offset": "true",
    "training.classes": "evaluated",
    "training.targets": "middle",
    "training.train_stride_s": "2.0",
    "training.alpha": "1.0",
    "training.threads": "2",
    "training.device": "cuda:7",
}
ATTENDING = (
    "model.attention.query=target",
    "model.attention.context_s=5",
    "model.scoring.form=overlapping",
    "model.scoring.length_s=8.0",
    "model.scoring.margin_s=2.0",
)
HEARING = ("training.learning_rate=0.01",)  # a network that still says something
PIECES = (*HEARING, "model.scoring.form=overlapping", "model.scoring.length_s=4.0", "model.scoring.margin_s=1.0")
WITH = {  # what a setting needs to matter, by the beginning of its name; the first that fits counts
    "model.attention.n_hidden": (*ATTENDING, "model.attention.score=additive"),
    "model.attention": ATTENDING,
    "model.encoder": ("model.encoder.name=sedsoft.encoders:mean_log_mel", "model.encoder.use=feature"),
    "model.scoring.length_s": PIECES,
    "model.scoring.margin_s": PIECES,
    "model.scoring": HEARING,
    "model.backbone.quiet": ("augmentation.masks.probability=0.0",),
    "loss.gamma": ("loss.name=focal",),
    "loss.alpha": ("loss.name=focal",),
    "augmentation.masks": ("augmentation.masks.probability=1.0",),
    "augmentation": ("augmentation.waveform.piece_s=10.0", "augmentation.n_copies=1", "augmentation.copy_share=1.0"),
    "training.train_stride_s": ("training.targets=middle",),
    "training.keep": ("training.learning_rate=0.02", "training.epochs=30", "training.lr_patience=30"),
}
ALSO = {  # what has to change with a setting
    "features.sr": ("features.f_max_hz=4000.0", "features.hop=1600", "features.win=3200"),  # frames as before
    "model.attention.form": ("model.scoring.form=windows", "model.scoring.length_s=5.0", "training.targets=middle"),
    "model.encoder.use": (*ATTENDING, "model.attention.query=encoder"),
}


def leaves(config: Config, prefix: str = "") -> Iterator[str]:
    """The dotted names of all settings."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        yield from leaves(value, f"{prefix}{field.name}.") if dataclasses.is_dataclass(value) else [prefix + field.name]


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    corpus = write_toy(tmp_path_factory.mktemp("toy"), n_recordings=5, n_segments=7)
    return replace(corpus, evaluated=corpus.classes[:1])


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEDSOFT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def outcome(config: Config, corpus: Corpus, folder: Path) -> tuple:
    """Losses, shapes and scores of a short training, and the number of threads it had."""
    run = start_run(folder, config, describe(corpus))
    with experiment.n_threads(config.training.threads):
        material = gather(corpus, config)
        threads = torch.get_num_threads()
        records = [epoch.record for epoch in train_fold(run, corpus, material, 1)]
        finish_fold(run, corpus, material, 1)
    shapes = {features.shape for features in material.features.values()}
    scores = [path.read_text() for path in sorted((folder / "scores").iterdir())]
    return tuple(records), tuple(shapes), scores, threads, (folder / "config.toml").read_text().splitlines()[0]


def base(*settings: str) -> Config:
    """A configuration whose loss never improves after the first epochs, so that patience has something to do."""
    usual = ("loss.name=mse", "training.epochs=4", "training.learning_rate=0.3", "training.lr_patience=1")
    return toy_config(*usual, *settings)


def needs(setting: str) -> tuple[str, ...]:
    """The settings beside which this one matters."""
    return next((settings for begin, settings in WITH.items() if setting.startswith(begin)), ())


def test_every_setting_is_tried():
    everything = replace(
        Config(),
        model=ModelSpec(
            backbone=CRNNSpec(quiet=0.1),
            attention=AttentionSpec(query="encoder"),
            encoder=EncoderSpec(),
            scoring=ScoringSpec(form="overlapping", length_s=100.0),
        ),
        augmentation=AugmentationSpec(WaveformSpec(), masks=MaskSpec(probability=0.0)),
    )
    assert set(OTHER) == set(leaves(everything))


@pytest.fixture(scope="module")
def usual(toy: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Callable[[tuple[str, ...]], tuple]:
    """What comes out beside some settings, each kind once."""
    return lru_cache(lambda settings: outcome(base(*settings), toy, tmp_path_factory.mktemp("usual") / "run"))


REFUSED = {"training.device": 'device "cuda:7"', "model.encoder.is_tuned": "is a function and has no weights"}


@pytest.mark.parametrize("setting", OTHER)
def test_setting_has_an_effect(setting: str, toy: Corpus, usual: Callable, tmp_path: Path):
    settings = needs(setting)
    changed = (*settings, f"{setting}={OTHER[setting]}", *ALSO.get(setting, ()))
    if setting in REFUSED:
        with pytest.raises(ValueError, match=REFUSED[setting]):
            outcome(base(*changed), toy, tmp_path / "run")
    else:
        assert outcome(base(*changed), toy, tmp_path / "run") != usual(settings)


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


def test_masks_do_not_count_as_quiet():
    quiet = ["model.backbone.quiet=0.1"]
    with pytest.raises(ValueError, match="augmentation.masks erases what backbone.quiet counts from"):
        with_settings(find_config("crnn_augmented"), quiet)
    with_settings(find_config("crnn_augmented"), [*quiet, "augmentation.masks.probability=0.0"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.sequence_s=0.01", "sequence_s is 0.01, must be a whole number of seconds"),
        ("training.sequence_s=inf", "sequence_s is inf, must be a whole"),
        ("training.sequence_s=nan", "sequence_s is nan, must be a whole"),
        ("training.learning_rate=inf", "learning_rate is inf, must be above 0 and finite"),
        ("training.learning_rate=nan", "learning_rate is nan, must be above 0 and finite"),
        ("training.lr_factor=nan", "lr_factor is nan, must be in"),
    ],
)
def test_numbers_that_train_nothing_are_refused(setting: str, words: str):
    with pytest.raises(ValueError, match=words):
        with_settings(Config(), [setting])


@pytest.mark.parametrize("section", ["training", "loss"])
def test_a_refusal_says_in_which_section(section: str):
    with pytest.raises(ValueError, match=rf"^\[{section}\] alpha is -1.0, must be"):
        with_settings(Config(), [f"{section}.alpha=-1.0"])


@pytest.mark.parametrize(
    ("setting", "words"),
    [("model.backbone.block=10", "blocks of 10 frames do not divide"), ("features.n_mels=8", "leave none")],
)
def test_a_network_that_does_not_fit_is_refused_before_anything_is_begun(
    setting: str, words: str, toy: Corpus, tmp_path: Path
):
    with pytest.raises(ValueError, match=words):
        run_experiment(tmp_path / "run", with_settings(find_config("crnn"), [setting]), toy)
    assert not (tmp_path / "run").exists()
