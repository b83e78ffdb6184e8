"""Windowed attention against banded: what each computes, and what each scores; rows for bench.md.

    python bench/attention.py [--rounds 3] [--steps 100]
    python bench/attention.py --data CORPUS --out DIR [--seeds 2] [--epochs 20]
    python bench/attention.py --data runs/demo_corpus --run runs/demo_attention

The first counts multiply-adds and takes times on random features: scoring a recording of 232 s, and an epoch on a
training split of 114 minutes at stride 1 (from some steps of each). One thread, the two forms in turns, the processor's
time and not the clock's. The second trains both forms, windowed at `train_stride_s` = 20 with as many seconds in a
batch, and compares their F1_MO. The third tells how far the weights and scores of a trained banded network move when
a stream begins seven seconds later, by length and margin of the sequences.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from sedsoft.ablation import find_rows, row_config
from sedsoft.attention import count_attention_multiply_adds, overlapping
from sedsoft.audio import read_audio
from sedsoft.batches import Split, cut_chunks, cut_windows, make_split, take
from sedsoft.core import make_rng, with_settings
from sedsoft.corpus import read_corpus
from sedsoft.crnn import count_crnn_multiply_adds
from sedsoft.evaluation import class_table, compare_seeds
from sedsoft.experiment import judge_run, run_experiment
from sedsoft.features import FeatureSpec, features_of
from sedsoft.losses import LossSpec, make_loss
from sedsoft.models import Detector, ScoringSpec, Shapes, build_model, load_detector
from sedsoft.runs import Config, find_config
from sedsoft.scoring import score_features

N_SEGMENTS, N_TRAIN = 232, 30 * 228  # a recording, and the seconds of a training split
WINDOWED = (
    "name=windowed",
    "model.attention.form=windowed",
    "model.scoring.form=windows",
    "model.scoring.length_s=41.0",
    "training.targets=middle",
    "training.train_stride_s=20.0",
)


def configs(query: str) -> dict[str, Config]:
    """Banded attention as in Table 1's relatives, and the same windowed."""
    banded = with_settings(find_config("attention"), [f"model.attention.query={query}", "training.threads=1"])
    return {"banded": banded, "windowed": with_settings(banded, WINDOWED)}


def counted(config: Config, n_segments: int, encoded: int) -> float:
    """Multiply-adds to answer for so many seconds, of which so many are encoded."""
    model, per = config.model, config.features.frames_per_segment
    backbone = count_crnn_multiply_adds(model.backbone, config.features.n_mels) * per
    width = model.backbone.n_linear
    asked = n_segments if model.attention.form == "windowed" else encoded  # seconds that the query's CRNN hears
    of_query = backbone * asked if model.attention.query == "crnn" else 0
    of_target = count_attention_multiply_adds(model.attention, width, width, per)
    return backbone * encoded + of_query + n_segments * of_target


def print_counts() -> None:
    """Counted multiply-adds: windowed at stride 1 over banded."""
    print("| query | work | windowed (G) | banded (G) | ratio |\n|---|---|---|---|---|")
    for query in ("target", "crnn"):
        sides = configs(query)
        pieces = overlapping(N_SEGMENTS, sequence_s=200, margin_s=25)
        for work, seconds, banded in (
            ("score a recording of 232 s", N_SEGMENTS, sum(piece.end - piece.begin for piece in pieces)),
            ("hear 114 minutes in an epoch", N_TRAIN, N_TRAIN),
        ):
            ours = counted(sides["banded"], seconds, banded)
            theirs = counted(sides["windowed"], seconds, 41 * seconds)
            print(f"| {query} | {work} | {theirs / 1e9:.1f} | {ours / 1e9:.1f} | {theirs / ours:.1f} |")


def noise(n_segments: int) -> Split:
    """A recording of random features and labels."""
    rng = np.random.default_rng(0)
    heard = rng.normal(size=(5 * n_segments, 64)).astype(np.float32)
    return make_split([heard], [rng.random((n_segments, 17))], 5)


def scorers(query: str) -> dict[str, Callable[[], None]]:
    """Scoring a recording of 232 s, each way."""
    shapes = Shapes(n_mels=64, n_classes=17, frames_per_segment=5)
    spec = FeatureSpec()
    features = noise(N_SEGMENTS).features[0].flatten(0, 1).numpy()
    sides = {}
    for name, config in configs(query).items():
        detector = Detector(build_model(config.model, shapes, 0), config.model, shapes, spec, None, tuple("x" * 17))
        sides[name] = lambda detector=detector: score_features(detector, features, spec)
    return sides


def steppers(query: str, n_steps: int) -> dict[str, Callable[[], None]]:
    """So many steps of training, each way, in batches of four times 41 s."""
    shapes = Shapes(n_mels=64, n_classes=17, frames_per_segment=5)
    loss = make_loss(LossSpec(), "sigmoid")
    split = noise(328)
    cuts = {"banded": cut_chunks(split.lengths, 41), "windowed": cut_windows(split.lengths, 41)}
    sides = {}
    for name, config in configs(query).items():
        model = build_model(config.model, shapes, 0)
        adam = torch.optim.Adam(model.parameters())

        def steps(model=model, adam=adam, cuts=cuts[name]) -> None:
            for k in range(n_steps):
                batch = take(split, cuts, np.arange(4 * k, 4 * k + 4) % len(cuts))
                adam.zero_grad()
                loss(model(batch), batch).backward()
                adam.step()

        sides[name] = steps
    return sides


def in_turns(sides: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of the processor for each side, in turns, after a round that does not count."""
    seconds = {name: [] for name in sides}
    for k in range(rounds + 1):
        for name, work in sides.items():
            begin = time.process_time()
            work()
            if k:
                seconds[name].append(time.process_time() - begin)
    return {name: statistics.median(times) for name, times in seconds.items()}


def print_times(rounds: int, n_steps: int) -> None:
    """Measured times: windowed at stride 1 over banded."""
    print("\n| query | work | windowed (s) | banded (s) | ratio |\n|---|---|---|---|---|")
    for query in ("target", "crnn"):
        times = in_turns(scorers(query), rounds)
        print(f"| {query} | score a recording of 232 s | {_row(times, 1, 1)}")
        times = in_turns(steppers(query, n_steps), rounds)
        per_step = {"windowed": N_TRAIN / 4 / n_steps, "banded": N_TRAIN / 164 / n_steps}
        print(f"| {query} | an epoch of 114 minutes | {_row(times, per_step['windowed'], per_step['banded'])}")


def _row(times: dict[str, float], windowed: float, banded: float) -> str:
    """Both times, scaled, and their ratio."""
    theirs, ours = times["windowed"] * windowed, times["banded"] * banded
    return f"{theirs:.2f} | {ours:.2f} | {theirs / ours:.1f} |"


def compare_scores(data: str, out: str, n_seeds: int, epochs: int) -> None:
    """Train both forms with the query from the target's embeddings, and compare what they score."""
    corpus, judged = read_corpus(data), {"banded": [], "windowed": []}
    (row,) = find_rows(["attention_target"])
    for seed in range(n_seeds):
        for name in judged:
            config = row_config(row, seed, epochs)
            config = with_settings(config, WINDOWED) if name == "windowed" else config
            folder = Path(out) / f"{config.name}_seed{seed}"
            judged[name].append(judge_run(run_experiment(folder, config, corpus), corpus))
            mean = 100 * class_table(judged[name][-1]).loc["mean"]
            print(f"{name}, seed {seed}: F1_MO {mean['f1']:.2f}, validated {mean['f1_validated']:.2f}", flush=True)
    gain = compare_seeds(judged["banded"], judged["windowed"], make_rng(0, "attention"))["f1_mo"]
    ends = ", ".join(f"{100 * end:+.2f}" for end in gain["ci"] or ()) or "no interval"
    print(f"banded - windowed: {100 * gain['difference']:+.2f} points of F1_MO [{ends}]")


def print_shift(run: str, data: str, shift_s: int = 7) -> None:
    """How far a trained banded network's answers move with the first second of a stream, away from its ends."""
    detector = load_detector(Path(run) / "fold1")
    corpus, spec, per = read_corpus(data), detector.features, detector.features.frames_per_segment
    heard = [recording.audio for recording in corpus.recordings if recording.name in corpus.folds[1].test]
    stream = np.concatenate([features_of(read_audio(path, spec.sr), spec) for path in heard])
    half = detector.spec.attention.context_s // 2
    print(f"a stream of {len(stream) // per} s, {run}\n")
    print("| sequences (s) | margin beyond the context (s) | weights moved: median, 90th percentile, most | scores |")
    print("|---|---|---|---|")
    for length_s in (100.0, 200.0):
        for spare_s in (0.0, 5.0, 10.0):
            scoring = ScoringSpec(form="overlapping", length_s=length_s, margin_s=half + spare_s)
            asked = replace(detector, spec=replace(detector.spec, scoring=scoring))
            whole, later = (score_features(asked, part, spec) for part in (stream, stream[shift_s * per :]))
            away = slice(half + 20, -half)
            cells = []
            for one, other in ((whole.weights, later.weights), (whole.scores, later.scores)):
                moved = np.abs(one[shift_s:] - other).max(1)[away]
                cells.append(", ".join(f"{part:.1e}" for part in np.quantile(moved, (0.5, 0.9, 1.0))))
            print(f"| {length_s:.0f} | {spare_s:.0f} | {cells[0]} | {cells[1]} |", flush=True)


def main() -> None:
    """Count and time, or train and compare, or shift."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="steps of training in a round")
    parser.add_argument("--data", help="a corpus folder: train both forms on it, or shift its recordings")
    parser.add_argument("--run", help="a run with banded attention: shift what it hears")
    parser.add_argument("--out", help="where the runs are kept")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=20)
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.run:
        print_shift(args.run, args.data)
        return
    if args.data:
        compare_scores(args.data, args.out, args.seeds, args.epochs)
        return
    print(f"torch {torch.__version__}, one thread, 128 filters, hop 3200, context 41 s, sequences of 200 s\n")
    print_counts()
    print_times(args.rounds, args.steps)


if __name__ == "__main__":
    main()
