"""Features: every field has its effect, streams and wholes agree, peers agree, the cache survives what disks do."""

import dataclasses
import os
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import peers_python

from sedsoft import features
from sedsoft.audio import read_audio, read_blocks, write_audio
from sedsoft.core import FileError, from_mapping, to_mapping
from sedsoft.features import (
    BASELINE,
    REPORT,
    FeatureCache,
    FeatureSpec,
    feature_key,
    features_of,
    fit_standardiser,
    mel_filters,
    read_features,
    stream_features,
)

FINE = FeatureSpec(hop=800, win=1600)
PUBLISHED = dataclasses.replace(BASELINE, sr=44100, hop=8820, win=17640, f_max_hz=14000.0)
SPECS = [BASELINE, REPORT, FINE, FeatureSpec(hop=1600, win=1600), FeatureSpec(hop=500, win=2000, centred=True)]


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    """Loud noise that fades, so that no two frames are alike: (N,) float32."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(n_samples) * np.linspace(0.3, 0.01, n_samples)).astype(np.float32)


def by_hand(wav: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Features in double precision, frame after frame, from the definition alone."""
    pad, mode = (spec.win // 2, "constant") if spec.centred else ((spec.win - spec.hop) // 2, "reflect")
    padded = np.pad(wav.astype(np.float64), pad, mode=mode)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.win) / spec.win)
    frames = [padded[i : i + spec.win] * window for i in range(0, len(padded) - spec.win + 1, spec.hop)]
    mel = np.abs(np.fft.rfft(frames)) @ mel_filters(spec)
    return np.log(np.maximum(mel, 1e-5)) if spec.scale == "log" else mel


@pytest.mark.parametrize("spec", [*SPECS, PUBLISHED])
def test_frames_are_what_the_definition_says(spec):
    wav = noise(3 * spec.sr + 1234)
    expected = by_hand(wav, spec)
    found = features_of(wav, spec)
    assert found.dtype == np.float32
    assert len(found) == len(wav) // spec.hop + spec.centred
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("spec", [*SPECS, PUBLISHED])
def test_torchaudio_is_the_peer(spec):
    wav = noise(4 * spec.sr)
    transform = features._import_torchaudio().transforms.MelSpectrogram(
        spec.sr, spec.win, spec.win, spec.hop, spec.f_min_hz, spec.f_max_hz, n_mels=spec.n_mels, power=1.0,
        norm="slaney", mel_scale="slaney", center=spec.centred, pad_mode="constant",
    )  # fmt: skip
    padded = wav if spec.centred else np.pad(wav, (spec.win - spec.hop) // 2, mode="reflect")
    expected = transform.double()(torch.from_numpy(padded).double()).T.numpy()
    linear = dataclasses.replace(spec, scale="linear")
    np.testing.assert_allclose(features_of(wav, linear), expected, rtol=1e-5, atol=1e-6)
    logarithmic = dataclasses.replace(spec, scale="log")
    np.testing.assert_allclose(features_of(wav, logarithmic), np.log(np.maximum(expected, 1e-5)), atol=1e-5)


LIBROSA = """
import sys, librosa, numpy as np
wav, sr = librosa.load(sys.argv[1], sr=16000)
mel = librosa.feature.melspectrogram(
    y=wav, sr=sr, n_fft=6400, hop_length=3200, n_mels=64, fmin=50, fmax=8000, power=1.0, center=True
)
filters = librosa.filters.mel(sr=sr, n_fft=6400, n_mels=64, fmin=50, fmax=8000)
np.savez(sys.argv[2], wav=wav, mel=mel.T, filters=filters.T)
"""


@pytest.mark.parametrize(("sr", "n_channels"), [(44100, 2), (16000, 1)])
def test_librosa_is_the_peer(tmp_path, sr, n_channels):
    wav = np.stack([noise(5 * sr, seed) for seed in range(n_channels)], axis=1)
    write_audio(tmp_path / "a.wav", wav, sr)
    args = [peers_python(), "-c", LIBROSA, tmp_path / "a.wav", tmp_path / "peer.npz"]
    subprocess.run(args, check=True, capture_output=True)
    peer = np.load(tmp_path / "peer.npz")
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), peer["wav"], atol=1e-6)
    np.testing.assert_allclose(mel_filters(BASELINE), peer["filters"], atol=1e-6)
    found = features_of(peer["wav"], BASELINE)
    np.testing.assert_allclose(np.log(np.maximum(found, 1e-5)), np.log(np.maximum(peer["mel"], 1e-5)), atol=1e-4)
    np.testing.assert_allclose(read_features(tmp_path / "a.wav", BASELINE), peer["mel"][:25], atol=1e-4, rtol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    n_samples=st.integers(1, 40_000),
    cuts=st.lists(st.integers(0, 40_000), max_size=8),
    spec=st.sampled_from(SPECS),
    exact=st.booleans(),
)
def test_a_stream_is_the_whole(n_samples, cuts, spec, exact):
    wav = noise(n_samples)
    n_frames = max(1, n_samples // spec.sr) * spec.frames_per_segment if exact else None
    whole = features_of(wav, spec, n_frames)
    parts = list(stream_features(np.split(wav, sorted(min(cut, n_samples) for cut in cuts)), spec, n_frames))
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert len(whole) == n_frames if exact else len(whole) == max(1, n_samples // spec.hop + spec.centred)


@pytest.mark.parametrize("spec", SPECS)
def test_a_stream_ends_with_the_frames_wanted(spec):
    blocks = iter(np.split(noise(10 * spec.sr), 100))
    found = np.concatenate(list(stream_features(blocks, spec, n_frames=spec.frames_per_segment)))
    np.testing.assert_allclose(found, features_of(noise(10 * spec.sr), spec)[: len(found)], rtol=1e-5, atol=1e-5)
    assert len(found) == spec.frames_per_segment
    assert len(list(blocks)) > 80  # the rest was never asked for


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("n_samples", [1, 2, 700, 1599, 1600, 1601, 3200, 6400, 15_999])
def test_short_recordings_fill_one_segment(spec, n_samples):
    found = features_of(noise(n_samples), spec, spec.frames_per_segment)
    silence = np.zeros(spec.sr - n_samples, np.float32)
    expected = features_of(np.concatenate([noise(n_samples), silence]), spec, spec.frames_per_segment)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("spec", [*SPECS, PUBLISHED])
def test_frames_belong_to_their_segments(spec):
    for k in range(3):
        click = np.zeros(3 * spec.sr, np.float32)
        click[k * spec.sr + spec.sr // 2 + 321] = 1.0  # not between two windows
        assert features_of(click, spec).sum(axis=1).argmax() // spec.frames_per_segment == k


def test_every_field_has_its_effect(tmp_path):
    changes = {
        "sr": 8000, "hop": 800, "win": 4800, "n_mels": 32, "f_min_hz": 60.0, "f_max_hz": 4000.0, "scale": "linear",
        "centred": True, "standardise": True,
    }  # fmt: skip
    assert set(changes) == {field.name for field in dataclasses.fields(FeatureSpec)}
    write_audio(tmp_path / "a.wav", noise(32_000), 16000)
    base = FeatureSpec(hop=1600, f_max_hz=3900.0)
    keys = {feature_key("hash", base, 10)}
    for name, value in changes.items():
        spec = dataclasses.replace(base, **{name: value})
        keys.add(feature_key("hash", spec, 10))
        assert features.spec_differences(spec, base).startswith(f"{name} is {value}, not ")
        found, usual = read_features(tmp_path / "a.wav", spec), read_features(tmp_path / "a.wav", base)
        if name == "standardise":  # whoever holds the standardiser applies it
            np.testing.assert_array_equal(found, usual)
        else:
            assert found.shape != usual.shape or abs(found - usual).max() > 0.01
    assert len(keys) == len(changes) + 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sr": 0}, "sr is 0, must be a sample rate in Hz"),
        ({"hop": 0}, "hop is 0, must be at least 1 sample"),
        ({"hop": 3000}, r"hop is 3000 \(0.1875 s\), but a segment of 1 s must hold a whole number of frames: use 2"),
        ({"hop": 17000, "win": 34000}, "hop is 17000 .* use 4000, 8000, 16000"),
        ({"win": 3000}, r"win is 3000, must be even, and at least hop \(3200\)"),
        ({"win": 6401}, "win is 6401, must be even"),
        ({"hop": 125, "win": 250}, "win is 250 and hop 125, must differ by an even number where not centred"),
        ({"n_mels": 0}, "n_mels is 0, must be at least 1"),
        ({"f_min_hz": -1.0}, "f_min_hz is -1.0, must be at least 0"),
        ({"f_min_hz": 8000.0}, r"f_min_hz is 8000.0, must be at least 0 and below f_max_hz \(8000.0\)"),
        ({"f_max_hz": 14000.0}, r"f_max_hz is 14000.0, must be at most half the sample rate \(8000.0\)"),
        ({"f_max_hz": float("nan")}, "f_m.._hz is"),
        ({"scale": "dB"}, """scale is 'dB', must be "log" or "linear\""""),
    ],
)
def test_front_ends_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        FeatureSpec(**fields)


def test_a_front_end_goes_through_a_file():
    for spec in (BASELINE, REPORT, PUBLISHED):
        assert from_mapping(FeatureSpec, to_mapping(spec)) == spec


def test_bad_samples_are_refused():
    for spec in (BASELINE, REPORT):
        for value in (np.nan, np.inf, -np.inf):
            wav = noise(64_000)
            wav[40_000] = value
            blocks = np.split(wav, 8)
            with pytest.raises(ValueError, match=r"samples around 2\.[246]"):
                list(stream_features(blocks, spec))
    for wav in (np.zeros((16000, 2)), np.zeros((1, 16000)), np.zeros(16000, np.int16)):
        with pytest.raises(ValueError, match="must be mono floats of shape"):
            features_of(wav, REPORT)
    with pytest.raises(ValueError, match="there are 0 s of audio"):
        list(stream_features([], REPORT))


def test_standardiser_is_in_double_precision_and_changes_nothing():
    rng = np.random.default_rng(0)
    entries = [(1000 + 0.01 * rng.standard_normal((n, 3))).astype(np.float32) for n in (5000, 1, 300)]
    kept = [entry.copy() for entry in entries]
    standardiser = fit_standardiser(entries)
    joined = np.concatenate(entries).astype(np.float64)
    np.testing.assert_allclose(standardiser.mean, joined.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(standardiser.std, joined.std(axis=0), rtol=1e-6)
    assert standardiser(entries[0]).dtype == np.float32
    assert standardiser(np.stack([entries[0]] * 2)).shape == (2, 5000, 3)
    for entry, before in zip(entries, kept, strict=True):
        np.testing.assert_array_equal(entry, before)
    for value in (0.0, 0.1, -11.5, 1e-6, 1e6):  # bands that never vary
        constant = np.full((7, 1), value, np.float32)
        assert fit_standardiser([constant, constant]).std == 1
    faint = np.array([[1e-4], [3e-4]], np.float32)  # a band that varies, however little
    np.testing.assert_allclose(fit_standardiser([faint]).std, 1e-4, rtol=1e-5)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    soundfile.write(tmp_path / "long.flac", np.zeros(30 * 60 * 16000, np.int16), 16000)  # 115 MB as floats
    features_of(noise(100), BASELINE)  # tables are made once
    tracemalloc.start()
    found = read_features(tmp_path / "long.flac", BASELINE)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (9000, 64)
    assert peak_bytes < 30e6


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A file of 2.5 s."""
    write_audio(tmp_path / "a.wav", noise(40_000), 16000)
    return tmp_path / "a.wav"


def count_computing(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that grows by a path whenever features are computed."""
    calls, compute = [], features._compute

    def counted(path: str | Path, spec: FeatureSpec, n_frames: int) -> np.ndarray:
        calls.append(str(path))
        return compute(path, spec, n_frames)

    monkeypatch.setattr(features, "_compute", counted)
    return calls


def test_whole_segments_are_read(recording):
    assert read_features(recording, BASELINE).shape == (10, 64)
    assert read_features(recording, BASELINE, n_segments=3).shape == (15, 64)
    with pytest.raises(FileError, match=r"a\.wav: there are 2\.5 s of audio, too few for 4 s of frames"):
        read_features(recording, BASELINE, n_segments=4)
    with pytest.raises(ValueError, match="n_frames is 0, must be at least 1"):
        read_features(recording, BASELINE, n_segments=0)
    write_audio(recording, noise(44_099), 44100)  # all but the last sample of a second, rounded up at 16 kHz
    assert read_features(recording, BASELINE).shape == (5, 64)
    write_audio(recording, noise(2 * 44100 - 1), 44100)
    assert read_features(recording, BASELINE).shape == (5, 64)  # as the corpus counts: the second second is not whole
    assert read_features(recording, PUBLISHED, n_segments=2).shape == (10, 64)


def test_files_are_refused_with_and_without_a_cache(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    for cache in (None, FeatureCache(tmp_path / "cache")):
        with pytest.raises(FileError, match=r"text\.wav: holds no audio"):
            read_features(tmp_path / "text.wav", BASELINE, n_segments=1, cache=cache)
        with pytest.raises(FileError, match=r"none\.wav: no such file"):
            read_features(tmp_path / "none.wav", BASELINE, n_segments=1, cache=cache)
    assert not list((tmp_path / "cache").rglob("*.npy"))


def test_cache_computes_once(recording, tmp_path, monkeypatch):
    calls, cache = count_computing(monkeypatch), FeatureCache(tmp_path / "cache")
    expected = read_features(recording, BASELINE)
    for _ in range(3):
        np.testing.assert_array_equal(read_features(recording, BASELINE, cache=cache), expected)
    copy = tmp_path / "elsewhere.wav"
    copy.write_bytes(recording.read_bytes())
    np.testing.assert_array_equal(read_features(copy, BASELINE, cache=cache), expected)  # content counts, not names
    assert len(calls) == 2
    read_features(recording, REPORT, cache=cache)
    read_features(recording, BASELINE, n_segments=1, cache=cache)
    assert len(calls) == 4
    monkeypatch.setattr(features, "VERSION", features.VERSION + 1)
    read_features(recording, BASELINE, cache=cache)
    assert len(calls) == 5


def test_other_versions_of_the_libraries_keep_features_of_their_own(monkeypatch):
    versions = features._library_versions()
    assert versions.keys() == {"numpy", "scipy", "soxr", "torchaudio", "libsndfile"}
    keys = {feature_key("hash", BASELINE, 10)}
    for name in versions:
        monkeypatch.setattr(features, "_library_versions", lambda name=name: versions | {name: "0.1"})
        keys.add(feature_key("hash", BASELINE, 10))
    assert len(keys) == 6


@pytest.mark.parametrize("spec", SPECS)
def test_a_file_has_the_same_features_however_it_is_cut(tmp_path, spec):
    write_audio(tmp_path / "long.wav", noise(31 * spec.sr), spec.sr)
    for block_s in (1.0, 7.3, 60.0):
        blocks = read_blocks(tmp_path / "long.wav", spec.sr, block_s)
        found = np.concatenate(list(stream_features(blocks, spec, 31 * spec.frames_per_segment)))
        np.testing.assert_array_equal(found, read_features(tmp_path / "long.wav", spec))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "checksum", "text"])
def test_damage_is_noticed_and_mended(recording, tmp_path, monkeypatch, damage):
    calls, cache = count_computing(monkeypatch), FeatureCache(tmp_path / "cache")
    expected = read_features(recording, BASELINE, cache=cache)
    [entry] = cache.folder.rglob("*.npy")
    good = entry.read_bytes()
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    checksum = bytearray(good)
    checksum[-1] ^= 4
    kinds = {"flip": flipped, "cut": good[:-100], "empty": b"", "checksum": checksum, "text": b"not features"}
    entry.write_bytes(kinds[damage])
    np.testing.assert_array_equal(read_features(recording, BASELINE, cache=cache), expected)
    assert entry.read_bytes() == good
    assert len(calls) == 2


def replace_unseen(path: Path, wav: np.ndarray) -> None:
    """Put other content of the same size into a file and turn its time of change back."""
    before = path.stat()
    write_audio(path.with_name("other.wav"), wav, 16000)
    time.sleep(0.05)  # some ticks of the clock
    path.write_bytes(path.with_name("other.wav").read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("quiet", [True, False])
def test_replaced_audio_is_noticed(recording, tmp_path, monkeypatch, quiet):
    cache, now = FeatureCache(tmp_path / "cache"), time.time
    if quiet:
        monkeypatch.setattr(features.time, "time", lambda: now() + 10)
    for seed in range(5):
        replace_unseen(recording, noise(40_000, seed))
        found = read_features(recording, BASELINE, cache=cache)
        np.testing.assert_array_equal(found, read_features(recording, BASELINE))
    notes = list((cache.folder / "contents").glob("*"))
    assert len(notes) == (5 if quiet else 0)


def test_content_is_hashed_once_while_a_file_is_quiet(recording, tmp_path, monkeypatch):
    cache, now = FeatureCache(tmp_path / "cache"), time.time
    monkeypatch.setattr(features.time, "time", lambda: now() + 10)
    content = cache.content(recording)
    [note] = (cache.folder / "contents").glob("*")
    with monkeypatch.context() as patched:
        patched.setattr(features.hashlib, "file_digest", None)
        assert cache.content(recording) == content
        assert cache.content(str(recording)) == content
    for bad in (b"", content[:-1].encode(), b"\xff" * 64, b"x" * 64, content.encode() + b"\n"):
        note.write_bytes(bad)
        assert cache.content(recording) == content
        assert note.read_text() == content


def write_many(folder: Path, seed: int) -> int:
    """Write and read one entry again and again; how often what was read was not whole."""
    cache, wrong = FeatureCache(folder), 0
    for _ in range(60):
        cache.put("ab" * 20, np.full((500, 64), 1.5, np.float32))
        found = cache.get("ab" * 20)
        wrong += found is None or not (found == 1.5).all()
    return wrong + 0 * seed


def test_writers_do_not_hurt_each_other(tmp_path):
    with ProcessPoolExecutor(2) as pool:
        counts = list(pool.map(write_many, [tmp_path] * 2, range(2)))
    threads = [threading.Thread(target=lambda: counts.append(write_many(tmp_path, 0))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [0] * 5
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["ab" * 20 + ".npy"]


def test_full_disk_leaves_no_half_entry(recording, tmp_path):
    code = (
        "import resource, sys; from pathlib import Path; from sedsoft.features import *;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "read_features(sys.argv[1], BASELINE, cache=FeatureCache(Path(sys.argv[2])))"
    )
    args = [sys.executable, "-c", code, recording, tmp_path / "cache"]
    done = subprocess.run(args, capture_output=True, text=True)
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert not list((tmp_path / "cache").rglob("*.npy"))
    cache = FeatureCache(tmp_path / "cache")
    assert read_features(recording, BASELINE, cache=cache).shape == (10, 64)


def test_torchaudio_without_its_compiled_part():
    code = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "torchaudio._extension":
            raise OSError("Could not load this library")
sys.meta_path.insert(0, Refuse())
from sedsoft.features import BASELINE, mel_filters
assert "torchaudio" not in sys.modules
assert mel_filters(BASELINE).shape == (3201, 64)
assert mel_filters(BASELINE).shape == (3201, 64)
import torchaudio
import torch
torchaudio.functional.resample(torch.zeros(100), 2, 1)
torchaudio.transforms.FrequencyMasking(3)(torch.ones(1, 8, 8))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_two_threads_may_begin_at_once():
    work = (
        "from concurrent.futures import ThreadPoolExecutor; import threading, numpy as np\n"
        "from sedsoft.features import BASELINE, REPORT, features_of\n"
        "together = threading.Barrier(2)\n"
        "def one(spec): together.wait(); return features_of(np.ones(16000, np.float32), spec).shape\n"
        "print(list(ThreadPoolExecutor(2).map(one, [BASELINE, REPORT])))"
    )
    done = subprocess.run([sys.executable, "-c", work], capture_output=True, text=True)
    assert done.stdout.strip() == "[(6, 64), (5, 64)]", done.stderr
