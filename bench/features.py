"""From 44.1 kHz stereo WAV on disk to log-mel frames: ours against librosa, in the same run, as rows for bench.md.

    python bench/features.py [--peers .peers/bin/python] [--rounds 7] [--files 4] [--duration_s 240]

Each side is a process of its own with one thread for each library, bound to one core (ours also to two, a file
a thread); they take turns, and medians are printed. The last column is the largest difference of log-mel frames,
the one before the time of reading features that were kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PINNED = dict.fromkeys(
    ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"], "1"
)
SIDES = ["ours", "ours_two_cores", "ours_kept", "librosa"]


def make_files(folder: Path, n_files: int, duration_s: int) -> list[Path]:
    """Stereo WAV files of 16 bits at 44.1 kHz, like the real recordings: noise that swells, with a tone."""
    import numpy as np

    from sedsoft.audio import write_audio

    paths = []
    for k in range(n_files):
        rng, n_samples = np.random.default_rng(k), duration_s * 44100
        swell = 0.1 * (1 + np.sin(np.arange(n_samples) / 44100))[:, None]
        tone = 0.1 * np.sin(2 * np.pi * 440 * (k + 1) * np.arange(n_samples) / 44100)[:, None]
        paths.append(folder / f"{k}.wav")
        write_audio(paths[-1], swell * rng.uniform(-1, 1, (n_samples, 2)) + tone, 44100)
    return paths


def our_work(paths: list[Path], hop: int, side: str) -> Callable[[], list]:
    """What is timed on our side."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from sedsoft.features import FeatureCache, FeatureSpec, read_features

    spec = FeatureSpec(hop=hop, win=2 * hop, scale="linear", centred=True)
    if side == "ours_kept":
        cache = FeatureCache(paths[0].parent / f"cache{hop}")
        return lambda: [read_features(path, spec, cache=cache) for path in paths]

    def to_log_mel(path: Path) -> np.ndarray:
        return np.log(np.maximum(read_features(path, spec), 1e-5))

    pool = ThreadPoolExecutor(2 if side == "ours_two_cores" else 1)
    return lambda: list(pool.map(to_log_mel, paths))


def peer_work(paths: list[Path], hop: int) -> Callable[[], list]:
    """What is timed on librosa's side."""
    import librosa
    import numpy as np

    def to_log_mel(path: Path) -> np.ndarray:
        wav, sr = librosa.load(path, sr=16000)
        mel = librosa.feature.melspectrogram(
            y=wav, sr=sr, n_fft=2 * hop, hop_length=hop, n_mels=64, fmin=50, fmax=8000, power=1.0
        )
        return np.log(np.maximum(mel.T, 1e-5))

    return lambda: [to_log_mel(path) for path in paths]


def work(side: str, hop: int, paths: list[Path], out: Path) -> None:
    """Be one side: do the work once unasked, save it, then once a line that comes, answering with the time it took."""
    import numpy as np

    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if cores:
        os.sched_setaffinity(0, cores[-2:] if side == "ours_two_cores" else cores[-1:])
    call = peer_work(paths, hop) if side == "librosa" else our_work(paths, hop, side)
    np.save(out, call()[0])
    print("ready", flush=True)
    for _ in sys.stdin:
        begin_s = time.perf_counter()
        call()
        print(json.dumps(time.perf_counter() - begin_s), flush=True)


def start(side: str, hop: int, args: argparse.Namespace, folder: Path) -> subprocess.Popen:
    """Start one side and wait until it has done its work once."""
    python = args.peers if side == "librosa" else Path(sys.executable)
    paths = [str(folder / f"{k}.wav") for k in range(args.files)]
    command = [python, __file__, "--side", side, "--hop", str(hop), "--out", folder / f"{side}.npy", *paths]
    process = subprocess.Popen(
        command, env={**os.environ, **PINNED}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n", f"{side} did not start"
    return process


def take_turns(args: argparse.Namespace, hop: int, folder: Path) -> dict[str, float]:
    """Median time of each side in ms a minute of audio; sides take turns, so that a busy machine slows all alike."""
    processes = {side: start(side, hop, args, folder) for side in SIDES}
    times_s = {side: [] for side in SIDES}
    for _ in range(args.rounds):
        for side, process in processes.items():
            process.stdin.write("go\n")
            process.stdin.flush()
            times_s[side].append(json.loads(process.stdout.readline()))
    for process in processes.values():
        process.stdin.close()
        process.wait()
    minutes = args.files * args.duration_s / 60
    return {side: 1000 * statistics.median(times) / minutes for side, times in times_s.items()}


def largest_difference(folder: Path) -> float:
    """Largest difference of log-mel frames between both sides, on the first file."""
    import numpy as np

    ours, peer = np.load(folder / "ours.npy"), np.load(folder / "librosa.npy")
    return float(np.abs(ours - peer[: len(ours)]).max())


def main() -> None:
    """Time both sides and print a row a hop."""
    parser = argparse.ArgumentParser(description="From WAV to log-mel frames, ours against librosa.")
    default = os.environ.get("SEDSOFT_PEERS") or ROOT / ".peers" / "bin" / "python"
    parser.add_argument("--peers", type=Path, default=Path(default), help="an interpreter that has librosa")
    parser.add_argument("--rounds", type=int, default=7, help="times that each side does the work")
    parser.add_argument("--files", type=int, default=4, help="number of files")
    parser.add_argument("--duration_s", type=int, default=240, help="duration of a file, s")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--hop", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        work(args.side, args.hop, args.paths, args.out)
        return
    if not args.peers.exists():
        parser.error(f"{args.peers} is no file: run `make setup`, or name an interpreter that has librosa")
    print("44.1 kHz stereo WAV to log-mel, ms a minute of audio; medians")
    print()
    print("| hop | librosa, one core | ours, one core | ratio | ours, two cores | ratio | kept on disk | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for hop in (3200, 800):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            make_files(folder, args.files, args.duration_s)
            time.sleep(3)  # the cache notes contents of files that have been quiet
            ms = take_turns(args, hop, folder)
            one, two = ms["librosa"] / ms["ours"], ms["librosa"] / ms["ours_two_cores"]
            print(
                f"| {hop} | {ms['librosa']:.1f} | {ms['ours']:.1f} | {one:.1f} | {ms['ours_two_cores']:.1f} |"
                f" {two:.1f} | {ms['ours_kept']:.2f} | {largest_difference(folder):.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
