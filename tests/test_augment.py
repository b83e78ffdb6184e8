"""Augmentation: other rates and lengths, every field has its effect, workers agree, types and slopes of masks."""

import dataclasses
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from sedsoft.audio import write_audio
from sedsoft.augment import (
    MaskSpec,
    WaveformSpec,
    augment_recording,
    augment_waveform,
    augmented_features,
    mask_spectrogram,
    pitch_shift,
    reverb,
)
from sedsoft.core import FileError
from sedsoft.features import REPORT, FeatureCache, FeatureSpec

OTHER_VALUES = {
    "pitch_cents": 50.0,
    "clip_from": 0.1,
    "room": 10.0,
    "pitch_probability": 0.0,
    "clip_probability": 0.0,
    "reverb_probability": 0.0,
    "piece_s": 3.0,
}


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    """Noise with a few loud samples: (N,) float32."""
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def peak_hz(wav: np.ndarray, sr: int) -> float:
    """The frequency of the loudest partial, to a small part of a Hz."""
    heights = np.log(np.abs(np.fft.rfft(wav * np.hanning(len(wav)), 8 * len(wav))))
    k = heights.argmax()
    left, top, right = heights[k - 1 : k + 2]
    return (k + (left - right) / 2 / (left - 2 * top + right)) * sr / (8 * len(wav))


@pytest.mark.parametrize("sr", [8000, 22050, 32000, 44100, 48000])
def test_a_tone_moves_by_the_cents_asked_at_any_rate(sr):
    wav = np.sin(2 * np.pi * 440 * np.arange(2 * sr) / sr)
    for cents in (-1200, -300, 200, 1200):
        shifted = pitch_shift(wav, sr, cents)
        assert shifted.shape == wav.shape
        assert abs(1200 * np.log2(peak_hz(shifted[sr // 2 : 3 * sr // 2], sr) / 440) - cents) < 1


def test_two_tones_keep_their_interval_and_their_levels():
    seconds = np.arange(3 * 16000) / 16000
    wav = 0.5 * np.sin(2 * np.pi * 500 * seconds) + 0.05 * np.sin(2 * np.pi * 3000 * seconds)
    spectrum = np.abs(np.fft.rfft(pitch_shift(wav, 16000, 1200)[16000:32000] * np.hanning(16000)))
    assert spectrum.argmax() == 1000
    assert 5990 < 2000 + spectrum[2000:].argmax() < 6010
    assert spectrum[2000:].max() / spectrum.max() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize("cents", [-1200, -300, -0.001, 17, 1200])
def test_any_length_is_kept(cents):
    for n_samples in (*range(1, 40), 255, 1023, 1024, 1025, 16001):
        shifted = pitch_shift(noise(n_samples), 16000, cents)
        assert shifted.shape == (n_samples,)
        assert np.isfinite(shifted).all()


@pytest.mark.parametrize("sr", [100, 8000, 48000])
def test_reverb_works_at_any_rate_and_is_linear(sr):
    wav = noise(sr)
    wet = reverb(wav, sr, 50)
    assert wet.shape == wav.shape
    np.testing.assert_allclose(reverb(0.5 * wav, sr, 50), 0.5 * wet, atol=1e-5)
    later = np.concatenate([np.zeros(sr // 10, np.float32), wav])
    np.testing.assert_allclose(reverb(later, sr, 50)[sr // 10 :], wet, atol=1e-5)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(WaveformSpec)])
def test_every_field_of_a_waveform_spec_has_an_effect(field):
    changed = dataclasses.replace(WaveformSpec(), **{field: OTHER_VALUES[field]})
    wavs = [
        augment_recording(noise(96000), 16000, spec, np.random.default_rng(0)) for spec in (WaveformSpec(), changed)
    ]
    assert abs(wavs[0] - wavs[1]).max() > 1e-3


def test_double_precision_and_silence_give_what_single_precision_gives():
    wav = noise(16000)
    single, double = (
        augment_waveform(part, 16000, WaveformSpec(), np.random.default_rng(0))
        for part in (wav, wav.astype(np.float64))
    )
    np.testing.assert_array_equal(single, double)
    silence = augment_recording(np.zeros(400_000), 16000, WaveformSpec(), np.random.default_rng(0))
    assert silence.dtype == np.float32
    assert not silence.any()


def make_copies(path: Path, cache: Path | None) -> list[np.ndarray]:
    """Three copies of a recording; for a worker."""
    kept = None if cache is None else FeatureCache(cache)
    return [augmented_features(path, REPORT, 3, WaveformSpec(), copy, 0, kept) for copy in (2, 0, 1)]


def test_workers_make_the_same_copies_in_any_order(tmp_path):
    write_audio(tmp_path / "a.wav", noise(3 * 16000), 16000)
    alone = [augmented_features(tmp_path / "a.wav", REPORT, 3, WaveformSpec(), copy, 0) for copy in range(3)]
    with ProcessPoolExecutor(2) as pool:
        jobs = [pool.submit(make_copies, tmp_path / "a.wav", cache) for cache in (None, tmp_path / "c", tmp_path / "c")]
        for job in jobs:
            for made, copy in zip(job.result(), (2, 0, 1), strict=True):
                np.testing.assert_array_equal(made, alone[copy])


def test_copies_have_as_many_frames_as_asked_and_survive_damage(tmp_path):
    write_audio(tmp_path / "a.wav", noise(16000 * 5 // 2), 16000)
    cache = FeatureCache(tmp_path / "cache")
    for n_segments in (1, 2, 3):
        for spec in (REPORT, FeatureSpec(hop=800, win=1600), FeatureSpec(scale="linear", centred=True)):
            found = augmented_features(tmp_path / "a.wav", spec, n_segments, WaveformSpec(), 0, 0, cache)
            assert found.shape == (n_segments * spec.frames_per_segment, 64)
    for entry in cache.folder.rglob("*.npy"):
        entry.write_bytes(entry.read_bytes()[:-1])
    np.testing.assert_array_equal(augmented_features(tmp_path / "a.wav", spec, 3, WaveformSpec(), 0, 0, cache), found)
    with pytest.raises(FileError, match="a.wav: there are 2.5 s of audio, too few for 4 s"):
        augmented_features(tmp_path / "a.wav", REPORT, 4, WaveformSpec(), 0, 0, cache)
    (tmp_path / "empty.wav").write_bytes(b"")
    with pytest.raises(FileError, match="is empty"):
        augmented_features(tmp_path / "empty.wav", REPORT, 1, WaveformSpec(), 0, 0)


def test_masks_keep_type_and_layout_and_erased_entries_have_no_slope():
    spec = MaskSpec(probability=1.0, bands=1.0, frames=0.5, fill="zero")
    for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
        features = torch.ones(3, 64, 20, dtype=dtype).transpose(1, 2)
        masked = mask_spectrogram(features, spec, torch.Generator().manual_seed(1))
        assert masked.dtype == dtype
        assert masked.shape == (3, 20, 64)
        assert 0 < masked.double().mean() < 1
    features = torch.ones(3, 20, 64, requires_grad=True)
    masked = mask_spectrogram(features, spec, torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad(masked.sum(), features)
    assert torch.equal(slope, masked.detach())


def test_masks_of_an_empty_batch_are_empty():
    assert mask_spectrogram(torch.ones(0, 20, 64), MaskSpec(fill="zero"), torch.Generator()).shape == (0, 20, 64)


@pytest.mark.parametrize(
    "other", [{"n_masks": 5}, {"bands": 0.5}, {"frames": 0.01}, {"probability": 1.0}, {"fill": "zero"}]
)
def test_every_field_of_a_mask_spec_has_an_effect(other):
    features = 1 + torch.rand(50, 40, 32, generator=torch.Generator().manual_seed(0))
    specs = MaskSpec(), dataclasses.replace(MaskSpec(), **other)
    masked = [mask_spectrogram(features, spec, torch.Generator().manual_seed(3)) for spec in specs]
    assert not torch.equal(*masked)


def test_masks_are_drawn_where_the_generator_is_and_end_where_the_features_are():
    features = torch.empty(4, 205, 64, device="meta")  # a device that holds no numbers: mixing it with another fails
    for fill in ("min", "zero"):
        masked = mask_spectrogram(features, MaskSpec(fill=fill), torch.Generator().manual_seed(0))
        assert masked.device.type == "meta"
        assert masked.shape == features.shape
