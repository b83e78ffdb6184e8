"""Encoders from folders and names that are not as they must be, and the rules of what is kept and trained."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.testing import assert_close
from toy_encoder import save_small

from sedsoft import encoders
from sedsoft.audio import write_audio
from sedsoft.core import FileError, from_mapping, to_mapping
from sedsoft.encoders import (
    BATCH,
    KINDS,
    Encoder,
    EncoderHead,
    EncoderSpec,
    SegmentEncoder,
    blank_encoder,
    embed_segments,
    embedding_key,
    encoder_config,
    load_encoder,
    mean_log_mel,
    read_embeddings,
    read_extras,
    stream_segments,
    tunable_copy,
)
from sedsoft.features import FeatureCache, _import_torchaudio

BANDS = "sedsoft.encoders:mean_log_mel"


def change(path: Path, **values) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    """Quiet noise."""
    return np.random.default_rng(seed).normal(0, 0.1, n_samples).astype(np.float32)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No request goes out, and the hub's cache is an empty folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small wav2vec2."""
    return save_small(tmp_path / "small")


# --- loading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_loaded_with_the_weights_of_its_file(tmp_path: Path, kind: str):
    encoder = load_encoder(str(save_small(tmp_path / kind, kind)))
    stored = safetensors.torch.load_file(tmp_path / kind / "model.safetensors")
    assert stored
    for name, weight in encoder.network.network.state_dict().items():
        assert torch.equal(weight, stored[name]), name
    assert not encoder.network.training
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())
    assert embed_segments(encoder, noise(35_000)).shape == (2, 16)


def test_weights_with_a_head_for_pretraining_are_loaded(tmp_path: Path):
    # facebook/wav2vec2-base is such a file
    encoder = load_encoder(str(save_small(tmp_path / "a", for_pretraining=True)))
    stored = safetensors.torch.load_file(tmp_path / "a" / "model.safetensors")
    for name, weight in encoder.network.network.state_dict().items():
        assert torch.equal(weight, stored[f"wav2vec2.{name}"]), name


def test_old_names_of_weights_and_the_old_format_are_read(folder: Path):
    expected = embed_segments(load_encoder(str(folder)), noise(32_000))
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, name in old.items():
        weights = {key.replace(new, name): weight for key, weight in weights.items()}
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    np.testing.assert_array_equal(embed_segments(load_encoder(str(folder)), noise(32_000)), expected)


def test_half_precision_is_computed_in_single(folder: Path):
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    half = {name: weight.half() for name, weight in weights.items()}
    safetensors.torch.save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder / "config.json", dtype="float16")
    embeddings = embed_segments(load_encoder(str(folder)), noise(16_000))
    assert embeddings.dtype == np.float32


def test_name_of_the_hub_is_found_in_its_cache(offline: Path):
    snapshot = offline / "models--facebook--wav2vec2-base" / "snapshots" / ("0" * 40)
    save_small(snapshot)
    (offline / "models--facebook--wav2vec2-base/refs").mkdir()
    (offline / "models--facebook--wav2vec2-base/refs/main").write_text("0" * 40)
    encoder = load_encoder(EncoderSpec().name)
    assert encoder.name == "facebook/wav2vec2-base"
    assert encoder.identity == load_encoder(str(snapshot)).identity
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(FileError, match=r"facebook/wav2vec2-base: no such folder, and model\.safetensors was neither"):
        load_encoder(EncoderSpec().name)


def test_cache_is_asked_before_the_network(monkeypatch: pytest.MonkeyPatch, offline: Path, tmp_path: Path):
    from transformers import utils

    asked = []

    def cached_file(name: str, file: str, local_files_only: bool) -> str:
        asked.append((file, local_files_only))
        if local_files_only:
            raise OSError("not in the cache")
        return str(tmp_path / file)

    monkeypatch.setattr(utils, "cached_file", cached_file)
    assert encoders._find("owner/name", "a", "b") == tmp_path / "a"
    assert asked == [("a", True), ("b", True), ("a", False)]


def test_absent_encoder_says_what_to_put_where():
    with pytest.raises(FileError) as caught:
        load_encoder("facebook/wav2vec2-base")
    for part in (
        "facebook/wav2vec2-base: no such folder",
        "config.json, preprocessor_config.json and model.safetensors (or pytorch_model.bin)",
        "with an internet connection, transformers fetches the files by this name",
        "put the files of facebook/wav2vec2-base in such a folder yourself",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["./a", "/a/b", "a/b/c", "a b", "~/a", "../a", "."])
def test_what_is_no_name_of_the_hub_is_not_asked_for(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileError, match="is neither a folder nor a name of the hub|has no config.json"):
        load_encoder(name)


def test_a_file_is_no_folder(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(FileError, match="is neither a folder nor a name of the hub"):
        load_encoder(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_incomplete_folder_names_the_file(folder: Path, name: str):
    (folder / name).unlink()
    with pytest.raises(FileError, match=f"small: has no {name}.*; an encoder is a folder of config.json, "):
        load_encoder(str(folder))


def spoil_weights(content: bytes) -> Callable[[Path], None]:
    """Replace the weights."""
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def of(name: str, **values) -> Callable[[Path], None]:
    """Change a JSON file of the folder."""
    return lambda folder: change(folder / name, **values)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_weights(b""), r"model\.safetensors: not the weights that config\.json describes"),
        (spoil_weights(b"version https://git-lfs"), r"model\.safetensors: not the weights that config\.json describes"),
        (of("config.json", hidden_size=32), r"model\.safetensors: not the weights that config\.json describes"),
        (of("config.json", num_attention_heads=3), r"not the weights that config\.json describes \(embed_dim must"),
        (of("config.json", num_hidden_layers=3), r"lacks 32 weights that config\.json describes, such as encoder\.lay"),
        (of("config.json", model_type="bert"), r'config\.json: describes a "bert" network, not one that reads wavefo'),
        (of("config.json", model_type="whisper"), r'describes a "whisper" network.*must be wav2vec2, hubert, wavlm'),
        (of("config.json", model_type="wav2vec2-bert"), r'describes a "wav2vec2-bert" network'),
        (of("preprocessor_config.json", sampling_rate=8000), r"encoder hears 8000 Hz, the front end's sr is 16000 Hz"),
        (
            of("preprocessor_config.json", feature_extractor_type="WhisperFeatureExtractor"),
            r"preprocessor_config\.json: describes a WhisperFeatureExtractor, must be a Wav2Vec2FeatureExtractor",
        ),
        (
            of("preprocessor_config.json", feature_extractor_type="Nobody"),
            r"preprocessor_config\.json: describes no preprocessor",
        ),
        (lambda folder: (folder / "preprocessor_config.json").write_text("{"), "describes no preprocessor"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json, line 1: not JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), r"config\.json: damaged, or .* has no model_type"),
    ],
)
def test_damaged_folder_is_refused_quietly(folder: Path, spoil: Callable, message: str, capfd: pytest.CaptureFixture):
    spoil(folder)
    with pytest.raises(FileError, match=message) as caught:
        load_encoder(str(folder))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_loading_is_quiet_and_leaves_generators_and_loggers_alone(folder: Path, capfd: pytest.CaptureFixture):
    _import_torchaudio()
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (that it stays as it is)
    encoder = load_encoder(str(folder))
    blank_encoder(encoder_config(encoder))
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numbers).all()  # noqa: NPY002
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_identity_changes_with_every_file(folder: Path):
    identities = {load_encoder(str(folder)).identity}
    change(folder / "preprocessor_config.json", do_normalize=False)
    identities.add(load_encoder(str(folder)).identity)
    change(folder / "config.json", layer_norm_eps=1e-6)
    identities.add(load_encoder(str(folder)).identity)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights["encoder.layer_norm.bias"] += 1
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    identities.add(load_encoder(str(folder)).identity)
    assert len(identities) == 4


def test_preprocessor_decides_about_normalising(folder: Path):
    wav = noise(16_000) + 0.5
    normalised = embed_segments(load_encoder(str(folder)), (wav - wav.mean()) / wav.std())
    np.testing.assert_allclose(embed_segments(load_encoder(str(folder)), wav), normalised, atol=1e-4)
    change(folder / "preprocessor_config.json", do_normalize=False)
    plain = load_encoder(str(folder))
    assert not plain.network.is_normalised
    with torch.inference_mode():
        states = plain.network.network(torch.from_numpy(wav)[None]).last_hidden_state
    np.testing.assert_allclose(embed_segments(plain, wav), states.mean(dim=1), atol=1e-6)


def test_nothing_of_transformers_at_import():
    code = "import sys, sedsoft.encoders; assert 'transformers' not in sys.modules and 'torchaudio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# --- functions ------------------------------------------------------------------------------------------------------


def write_module(folder: Path, name: str, result: str) -> None:
    """Write a module with one function `embed`."""
    code = f"import numpy as np\ndef embed(waveforms, sr):\n    waveforms *= 1\n    return {result}\n"
    (folder / f"{name}.py").write_text(code)


@pytest.mark.parametrize(
    ("result", "found"),
    [
        ("waveforms[:, 0]", r"float32 of shape \(2,\) of 2 seconds, must make floats of shape \(2, E\)"),
        ("waveforms[:1]", r"float32 of shape \(1, 16000\)"),
        ("waveforms[:, :0]", r"float32 of shape \(2, 0\)"),
        ("(waveforms > 0)", r"bool of shape \(2, 16000\)"),
        ("None", r"object of shape \(\)"),
    ],
)
def test_functions_that_make_something_else(result: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"sounds_{abs(hash(result))}"
    write_module(tmp_path, name, result)
    with pytest.raises(ValueError, match=f'encoder "{name}:embed" makes {found}'):
        load_encoder(f"{name}:embed")


def test_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    write_module(
        tmp_path, "sounds_own", "np.stack([waveforms.mean(axis=1), waveforms.std(axis=1)], axis=1).astype('f8')"
    )
    encoder = load_encoder("sounds_own:embed", sr=8000)
    wav = noise(5 * 8000)
    kept = wav.copy()
    embeddings = embed_segments(encoder, wav)
    np.testing.assert_allclose(embeddings[:, 1], wav.reshape(5, -1).std(axis=1), rtol=1e-5)
    assert (encoder.n_embedding, encoder.sr, embeddings.dtype) == (2, 8000, np.float32)
    np.testing.assert_array_equal(wav, kept)
    before = encoder.identity
    with (tmp_path / "sounds_own.py").open("a") as file:
        file.write("# changed\n")
    assert load_encoder("sounds_own:embed", sr=8000).identity != before


def test_error_inside_a_module_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "sounds_broken.py").write_text("import not_there_at_all\n")
    with pytest.raises(ValueError, match="there is no module not_there_at_all"):
        load_encoder("sounds_broken:embed")


@pytest.mark.parametrize("sr", [8000, 16000, 22050, 44100])
def test_mean_log_mel_at_other_rates(sr: int):
    assert mean_log_mel(noise(3 * sr).reshape(3, sr), sr).shape == (3, 64)
    assert load_encoder(BANDS, sr).n_embedding == 64


# --- embedding ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_segments", [None, 1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH, 37])
@pytest.mark.parametrize("step", [1, 7, 100, 1000])
def test_segments_do_not_depend_on_the_blocks(n_segments: int | None, step: int):
    wav = np.arange(374, dtype=np.float32)  # 37 s of 10 samples, and 4 more
    blocks = np.split(wav, range(step, 374, step))
    parts = list(stream_segments(iter(blocks), 10, n_segments))
    assert [len(part) for part in parts[:-1]] == [BATCH] * (len(parts) - 1)
    assert 1 <= len(parts[-1]) <= BATCH
    np.testing.assert_array_equal(np.concatenate(parts).ravel(), wav[: 10 * (n_segments or 37)])


def test_no_more_is_read_than_is_wanted():
    def blocks():
        yield np.zeros(25, np.float32)
        raise AssertionError("read on")

    assert [part.shape for part in stream_segments(blocks(), 10, 2)] == [(2, 10)]


def test_ends_of_recordings():
    [only] = stream_segments([np.ones(3, np.float32)], 10)
    assert only.tolist() == [[1] * 3 + [0] * 7]
    with pytest.raises(ValueError, match="there are 0 s of audio, too few for 1 s"):
        list(stream_segments([], 10))
    with pytest.raises(ValueError, match=r"there are 1\.5 s of audio, too few for 3 s"):
        list(stream_segments([np.ones(15, np.float32)], 10, 3))
    with pytest.raises(ValueError, match="there are 16 s of audio, too few for 17 s"):
        list(stream_segments([np.ones(160, np.float32)], 10, 17))
    with pytest.raises(ValueError, match="n_segments is 0, must be at least 1"):
        list(stream_segments([np.ones(15, np.float32)], 10, 0))


def test_waveforms_that_are_none():
    bands = load_encoder(BANDS)
    with pytest.raises(ValueError, match=r"wav is int16 of shape \(16000,\), must be mono floats"):
        embed_segments(bands, np.zeros(16000, np.int16))
    with pytest.raises(ValueError, match=r"wav is float64 of shape \(16000, 2\)"):
        embed_segments(bands, np.zeros((16000, 2)))
    silence = embed_segments(bands, np.zeros(16000))
    np.testing.assert_allclose(silence, np.log(1e-5), rtol=1e-6)


def test_first_second_that_is_not_finite_is_named():
    broken = Encoder("broken", 10, 1, "", lambda waveforms: 1 / waveforms[:, :1])
    wav = np.ones(400, np.float32)
    wav[[200, 300]] = 0
    with pytest.raises(ValueError, match='encoder "broken" makes numbers that are not finite of second 20'):
        embed_segments(broken, wav)


def test_silence_is_embedded(folder: Path):
    encoder = load_encoder(str(folder))
    embeddings = embed_segments(encoder, np.zeros(48_000, np.float32))
    assert np.isfinite(embeddings).all()
    np.testing.assert_allclose(embeddings, embeddings[:1].repeat(3, axis=0), atol=1e-6)


def test_encoder_left_in_training_embeds_as_in_evaluation(folder: Path):
    encoder = load_encoder(str(folder))
    expected = embed_segments(encoder, noise(32_000))
    encoder.network.train()
    np.testing.assert_array_equal(embed_segments(encoder, noise(32_000)), expected)


# --- kept on disk ---------------------------------------------------------------------------------------------------


def test_files_are_embedded_as_they_are_read(tmp_path: Path):
    bands, wav = load_encoder(BANDS), noise(int(33.5 * 16_000))
    write_audio(tmp_path / "a.wav", wav, 16_000)
    embeddings = read_embeddings(tmp_path / "a.wav", bands)
    assert embeddings.shape == (33, 64)
    np.testing.assert_allclose(embeddings, embed_segments(bands, wav), atol=0.01)  # 16 bits
    np.testing.assert_array_equal(read_embeddings(str(tmp_path / "a.wav"), bands, 34)[:33], embeddings)
    write_audio(tmp_path / "b.wav", noise(2 * 44_100 - 1), 44_100)
    assert read_embeddings(tmp_path / "b.wav", bands, 2).shape == (2, 64)
    for cache in (None, FeatureCache(tmp_path / "cache")):
        with pytest.raises(FileError, match=r"a\.wav: there are 33\.5 s of audio, too few for 35 s"):
            read_embeddings(tmp_path / "a.wav", bands, 35, cache)
        with pytest.raises(FileError, match=r"none\.wav: no such file"):
            read_embeddings(tmp_path / "none.wav", bands, cache=cache)
    with pytest.raises(FileError, match=r"a\.wav: there are 33\.5 s of audio, too few for 35 s"):
        read_extras(tmp_path / "a.wav", EncoderSpec("a/b", is_tuned=True), bands, 35)
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_cache_computes_once_and_mends_damage(tmp_path: Path):
    calls = []
    encoder = Encoder("counting", 16_000, 2, "one", lambda waveforms: calls.append(1) or waveforms[:, :2] + 1)
    write_audio(tmp_path / "a.wav", noise(40_000), 16_000)
    cache = FeatureCache(tmp_path / "cache")
    expected = read_embeddings(tmp_path / "a.wav", encoder, cache=cache)
    np.testing.assert_array_equal(read_embeddings(tmp_path / "a.wav", encoder, cache=cache), expected)
    assert len(calls) == 1
    [entry] = cache.folder.rglob("*.npy")
    entry.write_bytes(entry.read_bytes()[:-40])
    np.testing.assert_array_equal(read_embeddings(tmp_path / "a.wav", encoder, cache=cache), expected)
    assert len(calls) == 2
    write_audio(tmp_path / "a.wav", noise(40_000, seed=1), 16_000)
    assert abs(read_embeddings(tmp_path / "a.wav", encoder, cache=cache) - expected).max() > 0
    assert len(calls) == 3


def test_key_knows_all_that_decides(monkeypatch: pytest.MonkeyPatch):
    def encoder(identity: str = "a", sr: int = 16_000) -> Encoder:
        return Encoder("name", sr, 2, identity, lambda waveforms: waveforms)

    keys = {embedding_key("file", encoder(), 10), embedding_key("other", encoder(), 10)}
    keys |= {embedding_key("file", encoder("b"), 10), embedding_key("file", encoder(sr=8000), 10)}
    keys |= {embedding_key("file", encoder(), 11), embedding_key("file", encoder(), None)}
    versions = encoders._library_versions()
    assert versions.keys() == {"numpy", "scipy", "soxr", "torch", "transformers", "libsndfile"}
    for name in versions:
        monkeypatch.setattr(encoders, "_library_versions", lambda name=name: versions | {name: "0.1"})
        keys.add(embedding_key("file", encoder(), 10))
    monkeypatch.setattr(encoders, "_library_versions", lambda: versions)
    monkeypatch.setattr(encoders, "VERSION", encoders.VERSION + 1)
    keys.add(embedding_key("file", encoder(), 10))
    assert len(keys) == 13
    assert all(len(key) == 40 for key in keys)


def read_many(folder: Path) -> float:
    """Read one file's embeddings again and again, with the cache emptied between."""
    bands, total = load_encoder(BANDS), 0.0
    for _ in range(10):
        total += float(read_embeddings(folder / "a.wav", bands, cache=FeatureCache(folder / "cache")).sum())
        for entry in (folder / "cache").rglob("[!.]*.npy"):  # what is being written has a dot in front
            entry.unlink(missing_ok=True)
    return total


def test_processes_do_not_hurt_each_other(tmp_path: Path):
    write_audio(tmp_path / "a.wav", noise(48_000), 16_000)
    with ProcessPoolExecutor(2) as pool:
        totals = list(pool.map(read_many, [tmp_path] * 2))
    assert totals[0] == totals[1] != 0
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file() and "partial" in path.name]


# --- head and training ----------------------------------------------------------------------------------------------


def test_spec_goes_through_a_mapping():
    spec = EncoderSpec("a/b", use="feature", is_tuned=True, n_hidden=(8, 4), dropout=0.0)
    assert from_mapping(EncoderSpec, to_mapping(spec)) == spec
    with pytest.raises(ValueError, match="name is ' ', must be a name of the hub, a folder, or package"):
        EncoderSpec(" ")
    with pytest.raises(ValueError, match=r"n_hidden is \(8, 0\), must be two layers or more, each of at least 1"):
        EncoderSpec(n_hidden=(8, 0))


def test_every_field_of_the_spec_changes_what_is_built(folder: Path):
    encoder = load_encoder(str(folder))

    def built(**changes) -> str:
        torch.manual_seed(0)
        return str(SegmentEncoder(EncoderSpec(str(folder), **{"n_hidden": (8, 4, 2), **changes}), encoder))

    others = [built(is_tuned=True), built(n_hidden=(8, 4, 3)), built(n_hidden=(8, 4)), built(dropout=0.5)]
    assert len({built(), *others}) == 5


def test_more_layers_or_fewer():
    outputs = EncoderHead(5, (7, 3))(torch.randn(2, 4, 5))
    assert (outputs.query.shape, outputs.middle.shape) == ((2, 4, 3), (2, 4, 7))
    outputs = EncoderHead(5, (9, 7, 6, 3))(torch.randn(2, 4, 5))
    assert (outputs.query.shape, outputs.middle.shape) == ((2, 4, 3), (2, 4, 6))


def test_a_single_second_is_trained_on():
    head = EncoderHead(6, (5, 4, 3))
    head(torch.zeros(1, 1, 6)).query.sum().backward()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in head.parameters())
    norm = next(layer for layer in head.modules() if isinstance(layer, torch.nn.BatchNorm1d))
    assert norm.num_batches_tracked == 0
    head(torch.randn(2, 1, 6))
    assert norm.num_batches_tracked == 1


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_reach_all_that_is_tuned_and_nothing_else(tmp_path: Path, kind: str):
    encoder = load_encoder(str(save_small(tmp_path / kind, kind)))
    kept = copy.deepcopy(encoder.network.state_dict())
    network = SegmentEncoder(EncoderSpec(encoder.name, is_tuned=True, n_hidden=(8, 4, 3)), encoder).train()
    outputs = network(torch.randn(2, 3, 16_000))
    outputs.query.square().sum().backward()
    with_slope = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    without = {name for name, _ in network.named_parameters()} - with_slope
    assert {name.split(".")[2] for name in without} == {"feature_extractor", "masked_spec_embed"}
    assert any(name.startswith("wave.network.encoder.layers.0.") for name in with_slope)
    assert not any(parameter.requires_grad for parameter in encoder.network.parameters())
    assert all(torch.equal(kept[name], weight) for name, weight in encoder.network.state_dict().items())


def test_no_slopes_are_kept_for_the_convolutions(folder: Path):
    network = tunable_copy(load_encoder(str(folder)))
    seen = []
    network.network.feature_extractor.register_forward_hook(lambda module, given, made: seen.append(made))
    network.train()(torch.randn(2, 16_000))
    network.eval()(torch.randn(2, 16_000))
    assert [made.requires_grad for made in seen] == [False, False]


def test_frozen_encoder_is_not_in_the_network(folder: Path):
    network = SegmentEncoder(EncoderSpec(str(folder)), load_encoder(str(folder)))
    assert all(name.startswith("head.") for name in network.state_dict())


def test_training_masks_nothing_and_draws_from_torch_alone(folder: Path):
    change(folder / "config.json", hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0)
    change(folder / "config.json", feat_proj_dropout=0.0, mask_time_prob=0.9, mask_feature_prob=0.9)
    network = tunable_copy(load_encoder(str(folder)))
    waveforms = torch.randn(2, 16_000)
    assert_close(network.train()(waveforms), network.eval()(waveforms))


def test_functions_cannot_be_tuned():
    with pytest.raises(ValueError, match="is a function and has no weights to be tuned"):
        tunable_copy(load_encoder(BANDS))


@pytest.mark.parametrize("shape", [(2, 3, 15), (3, 16), (2, 3, 4, 16), (2, 3, 16_000)])
def test_extras_of_another_shape(folder: Path, shape: tuple[int, ...]):
    network = SegmentEncoder(EncoderSpec(str(folder)), load_encoder(str(folder)))
    with pytest.raises(ValueError, match=r"must have \(B, S, 16\), embeddings"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("kind", KINDS)
def test_tuned_network_is_loaded_without_the_encoders_files(tmp_path: Path, kind: str):
    folder = save_small(tmp_path / kind, kind)
    change(folder / "preprocessor_config.json", do_normalize=False)
    encoder = load_encoder(str(folder))
    spec = EncoderSpec(encoder.name, is_tuned=True, n_hidden=(8, 4, 3))
    network = SegmentEncoder(spec, encoder).eval()
    config = json.loads(json.dumps(encoder_config(encoder)))
    for path in folder.iterdir():
        path.unlink()
    blank = blank_encoder(config)
    assert (blank.identity, blank.sr, blank.n_embedding) == (encoder.identity, 16_000, 16)
    again = SegmentEncoder(spec, blank)
    again.load_state_dict(network.state_dict())
    waveforms = torch.randn(2, 3, 16_000)
    assert_close(again.eval()(waveforms).query, network(waveforms).query)
    assert not again.wave.is_normalised


def test_no_request_goes_out_where_the_environment_forbids_it():
    code = "from sedsoft.encoders import load_encoder; load_encoder('facebook/wav2vec2-base')"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": "/nonexistent"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 1
    assert "FileError: facebook/wav2vec2-base: no such folder" in done.stderr.splitlines()[-1]
