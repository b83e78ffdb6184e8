"""What augmentation costs, and which engine shifts the pitch: rows for bench.md.

    python bench/augment.py [--peers .peers-augment/bin/python] [--rounds 5]

First the engines: ours and torchaudio's here, the others in an environment of their own, made by

    python3.11 -m venv .peers-augment
    .peers-augment/bin/pip install librosa python-stretch audiomentations pedalboard

Without it their rows are left out. Each engine is a process with one thread for each library. It shifts tones, clicks
and a made-up street; what comes out is judged here (torchaudio is only timed). Times are the processor's, the least of
all rounds.
Then: seconds a minute of audio for each effect and for a whole copy, and what masks add to a step of training.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"]
PINNED = dict.fromkeys(THREADS, "1")
SR = 16000
TONES_HZ, CENTS, CLICKS_S = (150.0, 440.0, 2000.0, 5000.0), (-300, -37, 120, 300), (0.7, 1.1234)
ENGINES = {  # name: (licence, latest release)
    "ours": ("Apache-2.0", "-"),
    "python-stretch 0.3.1": ("MIT", "2025-02"),
    "audiomentations 0.43.1": ("MIT", "2025-09"),
    "librosa 0.11.0": ("ISC", "2026-08 (1.0.0)"),
    "pedalboard 0.9.26, PitchShift": ("GPL-3.0", "2026-10"),
    "pedalboard 0.9.26, time_stretch": ("GPL-3.0", "2026-10"),
    "torchaudio 2.11.0": ("BSD-2", "2026-03"),
}
OURS = ("ours", "torchaudio 2.11.0")  # these run in our own environment


def engine(name: str) -> Callable[[np.ndarray, float], np.ndarray]:
    """What shifts (N,) samples by so many cents."""
    if name == "ours":
        from sedsoft.augment import pitch_shift

        return lambda wav, cents: pitch_shift(wav, SR, cents)
    if name.startswith("torchaudio"):
        import torch

        from sedsoft.features import _import_torchaudio

        shift = _import_torchaudio().functional.pitch_shift
        return lambda wav, cents: shift(torch.from_numpy(wav), SR, cents, bins_per_octave=1200).numpy()
    return peer(name)


def peer(name: str) -> Callable[[np.ndarray, float], np.ndarray]:
    """The same, in the peers' environment."""
    if name.startswith("librosa"):
        import librosa

        return lambda wav, cents: librosa.effects.pitch_shift(wav, sr=SR, n_steps=cents / 100)
    if name.startswith("audiomentations"):
        from audiomentations import PitchShift

        return lambda wav, cents: PitchShift(cents / 100, cents / 100, p=1.0)(wav, SR)
    if name.endswith("PitchShift"):
        import pedalboard

        return lambda wav, cents: pedalboard.Pedalboard([pedalboard.PitchShift(cents / 100)])(wav, SR)
    if name.endswith("time_stretch"):
        import pedalboard

        return lambda wav, cents: pedalboard.time_stretch(wav, SR, 1.0, cents / 100)[0]
    from python_stretch import Signalsmith

    def shift(wav: np.ndarray, cents: float) -> np.ndarray:
        stretch = Signalsmith.Stretch()
        stretch.preset(1, SR)
        stretch.setTransposeSemitones(cents / 100)
        return stretch.process(wav[None])[0]

    return shift


def tone(f_hz: float) -> np.ndarray:
    """Two seconds of a sine: (N,) float32."""
    return (0.3 * np.sin(2 * np.pi * f_hz * np.arange(2 * SR) / SR)).astype(np.float32)


def click(at_s: float) -> np.ndarray:
    """Two seconds of silence with a click in it: (N,) float32."""
    wav = np.zeros(2 * SR, np.float32)
    wav[round(at_s * SR)] = 0.9
    return wav


def made_up_street(cents: float) -> np.ndarray:
    """Six seconds of chirps, a siren and a voice, made with every frequency that much higher: (N,) float32."""
    seconds, ratio = np.arange(6 * SR) / SR, 2 ** (cents / 1200)

    def sine(f_hz: np.ndarray) -> np.ndarray:
        return np.sin(2 * np.pi * np.cumsum(ratio * f_hz) / SR)

    chirps = sine(2000 + 1500 * (4 * seconds % 1)) * (seconds % 2 < 0.5)
    siren = sine(900 + 300 * np.sin(np.pi * seconds))
    pitch_hz = 180 + 20 * np.sin(6 * np.pi * seconds)
    voice = sum(sine(k * pitch_hz) / k for k in range(1, 12)) * (seconds % 1 < 0.6)
    return (0.2 * chirps + 0.1 * siren + 0.1 * voice).astype(np.float32)


def work(name: str, out: Path, rounds: int) -> None:
    """Be one engine: shift everything that is judged, then time pieces of ten seconds; save both."""
    shift, is_slow, found = engine(name), name.startswith("torchaudio"), {}
    if not is_slow:
        found |= {f"tone {f_hz} {cents}": shift(tone(f_hz), cents) for f_hz in TONES_HZ for cents in CENTS}
        found |= {f"click {at_s} {cents}": shift(click(at_s), cents) for at_s in CLICKS_S for cents in (-300, 300)}
        found |= {f"street {cents}": shift(made_up_street(0), cents) for cents in (-300, 300)}
    pieces = np.random.default_rng(0).uniform(-0.3, 0.3, (2, 10 * SR)).astype(np.float32)
    times_s = []
    for _ in range(1 if is_slow else rounds):
        begin_s = time.process_time()
        lengths = [len(shift(piece, cents)) for piece, cents in zip(pieces, (-200, 211), strict=True)]
        times_s.append(time.process_time() - begin_s)
    keeps = lengths == [10 * SR, 10 * SR]
    np.savez(out, **found, s_a_minute=np.float64(3 * min(times_s)), keeps=np.bool_(keeps))


def peak_hz(wav: np.ndarray) -> tuple[float, float]:
    """The frequency of the loudest partial, Hz, and by how much it is above all else together, dB."""
    import scipy.signal

    middle = wav[SR // 2 : 3 * SR // 2].astype(np.float64)
    n = len(middle)
    window = scipy.signal.get_window("blackmanharris", n)
    spectrum = np.abs(np.fft.rfft(middle * window, 8 * n))
    k = spectrum.argmax()
    left, top, right = np.log(spectrum[k - 1 : k + 2])
    f_hz = (k + (left - right) / 2 / (left - 2 * top + right)) * SR / (8 * n)
    is_near = abs(np.arange(len(spectrum)) * SR / (8 * n) - f_hz) < 20
    return f_hz, 10 * np.log10(np.square(spectrum[is_near]).sum() / np.square(spectrum[~is_near]).sum())


def judge(found: dict[str, np.ndarray]) -> list[float]:
    """Worst error of a tone in cents, worst purity in dB, worst move and spread of a click in ms, street in nats."""
    from sedsoft.features import FeatureSpec, features_of

    errors, purities, moves, spreads, streets = [], [], [], [], []
    for key, wav in found.items():
        kind, *numbers = key.split()
        if kind == "tone":
            f_hz, purity = peak_hz(wav)
            errors.append(abs(1200 * np.log2(f_hz / float(numbers[0])) - float(numbers[1])))
            purities.append(purity)
        elif kind == "click":
            energy = np.cumsum(np.square(wav, dtype=np.float64))
            early, middle, late = np.searchsorted(energy, energy[-1] * np.array([0.05, 0.5, 0.95])) / SR
            moves.append(1000 * abs(middle - float(numbers[0])))
            spreads.append(1000 * (late - early))
        elif kind == "street":
            spec, ideal = FeatureSpec(hop=800, win=1600), made_up_street(float(numbers[0]))
            wanted = features_of(ideal, spec)
            is_loud = wanted > wanted.max() - 7
            streets.append(abs(features_of(wav[: len(ideal)], spec, len(wanted)) - wanted)[is_loud].mean())
    return [max(errors), min(purities), max(moves), max(spreads), float(np.mean(streets))]


def compare_engines(peers: Path, rounds: int) -> None:
    """Print a row an engine."""
    figures = "s a minute | error (cents) | purity (dB) | click moves (ms) | spread (ms) | street (nats)"
    print(f"| engine | licence | latest release | {figures} | length kept |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name, (licence, release) in ENGINES.items():
            python, out = Path(sys.executable) if name in OURS else peers, Path(folder) / "found.npz"
            if not python.exists():
                continue
            command = [python, __file__, "--side", name, "--out", out, "--rounds", str(rounds)]
            subprocess.run(command, env={**os.environ, **PINNED}, check=True)
            with np.load(out) as file:
                found = dict(file)
            kept = "yes" if found["keeps"] else "no"
            print(
                f"| {name} | {licence} | {release} | {found['s_a_minute']:.2f} | {quality(found)} | {kept} |",
                flush=True,
            )


def quality(found: dict[str, np.ndarray]) -> str:
    """The five figures of `judge` as columns; dashes for an engine that was only timed."""
    if not any(key.startswith("tone") for key in found):
        return "- | - | - | - | -"
    error, purity, move, spread, street = judge(found)
    return f"{error:.1f} | {purity:.0f} | {move:.1f} | {spread:.1f} | {street:.2f}"


def least_s(call: Callable[[], object], rounds: int) -> float:
    """The least processor time of some rounds, s."""
    times_s = []
    for _ in range(rounds):
        begin_s = time.process_time()
        call()
        times_s.append(time.process_time() - begin_s)
    return min(times_s)


def time_copies(rounds: int) -> None:
    """Print what each effect and a whole copy take, s a minute of audio."""
    from sedsoft.audio import write_audio
    from sedsoft.augment import WaveformSpec, augment_recording, augmented_features
    from sedsoft.features import FeatureSpec, read_features

    wav = np.random.default_rng(0).uniform(-0.3, 0.3, 60 * SR).astype(np.float32)
    off = {"pitch_cents": 0.0, "clip_from": 1.0, "room": 0.0}
    alone = {"pitch": "pitch_cents", "clipping": "clip_from", "reverb": "room"}
    print("\n| what | s a minute of audio |\n|---|---|")
    for name, field in alone.items():
        spec = WaveformSpec(**{key: value for key, value in off.items() if key != field})
        taken_s = least_s(lambda spec=spec: augment_recording(wav, SR, spec, np.random.default_rng(1)), rounds)
        print(f"| {name} | {taken_s:.3f} |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.flac"
        write_audio(path, wav, SR)
        for hop in (3200, 800):
            front_end = FeatureSpec(hop=hop, win=2 * hop)
            plain_s = least_s(lambda front_end=front_end: read_features(path, front_end), rounds)
            copy_s = least_s(
                lambda front_end=front_end: augmented_features(path, front_end, 60, WaveformSpec(), 0, 0), rounds
            )
            print(f"| features as recorded, hop {hop} | {plain_s:.3f} |")
            print(f"| features of a copy, hop {hop} | {copy_s:.3f} |", flush=True)


def time_masks(rounds: int) -> None:
    """Print what masks take of a step of training on 4 sequences of 41 s."""
    import torch

    from sedsoft.augment import MaskSpec, mask_spectrogram
    from sedsoft.crnn import CRNN, CRNNSpec

    torch.set_num_threads(1)
    features, generator = torch.randn(4, 205, 64), torch.Generator().manual_seed(0)
    model = CRNN(CRNNSpec(), n_mels=64, n_classes=11)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> None:
        optimiser.zero_grad()
        model(features).sigmoid().square().mean().backward()
        optimiser.step()

    step()
    step_ms = 1000 * least_s(step, rounds)
    mask_ms = 10 * least_s(lambda: [mask_spectrogram(features, MaskSpec(), generator) for _ in range(100)], rounds)
    print("\n| (4, 205, 64), one thread | ms | share of a step (%) |\n|---|---|---|")
    print(f"| a step of the CRNN | {step_ms:.0f} | 100 |")
    print(f"| masks | {mask_ms:.2f} | {100 * mask_ms / step_ms:.2f} |")


def time_epochs(rounds: int) -> None:
    """Print what an epoch of four steps takes with four copies and masks, of what it takes without: the goal is 1.5."""
    import torch

    from sedsoft.augment import MaskSpec, mask_spectrogram
    from sedsoft.batches import make_split
    from sedsoft.losses import LossSpec, make_loss
    from sedsoft.models import ModelSpec, Shapes, build_model
    from sedsoft.training import TrainingSpec, make_stream, train_epoch

    rng, spec = np.random.default_rng(0), TrainingSpec(batch_size=4, sequence_s=41.0, join=False, random_offset=True)
    heard = rng.normal(size=(5, 5 * 615, 64)).astype(np.float32)  # as recorded, and four copies
    split = make_split([heard], [rng.random((615, 17))], 5)
    model = build_model(ModelSpec(), Shapes(n_mels=64, n_classes=17, frames_per_segment=5), seed=0)
    adam, loss = torch.optim.Adam(model.parameters(), lr=1e-3), make_loss(LossSpec(), "sigmoid")
    plain = make_stream(split, spec)
    augmented = make_stream(split, spec, lambda features, dice: mask_spectrogram(features, MaskSpec(), dice), 1.0)
    plain_s, augmented_s = (
        least_s(lambda stream=stream: train_epoch(model, adam, stream(np.random.default_rng(0)), loss), rounds)
        for stream in (plain, augmented)
    )
    print("\n| an epoch of four steps, one thread | s | of plain |\n|---|---|---|")
    print(f"| plain | {plain_s:.3f} | 1.00 |")
    print(f"| four copies and masks | {augmented_s:.3f} | {augmented_s / plain_s:.2f} |")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description="What augmentation costs.")
    default = ROOT / ".peers-augment" / "bin" / "python"
    parser.add_argument("--peers", type=Path, default=default, help="an interpreter that has the other engines")
    parser.add_argument("--rounds", type=int, default=5, help="times that each piece of work is done")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        work(args.side, args.out, args.rounds)
        return
    compare_engines(args.peers, args.rounds)
    time_copies(args.rounds)
    time_masks(args.rounds)
    time_epochs(args.rounds)


if __name__ == "__main__":
    main()
