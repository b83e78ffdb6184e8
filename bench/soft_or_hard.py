"""Training on soft labels against training on hard ones: the same sounds, network and seeds, as rows for bench.md.

    python bench/soft_or_hard.py --data CORPUS [--config crnn] [--epochs 30] [--seeds 0 1 2] [--out runs/bench]

CORPUS lies in MAESTRO's layout. Beside it, in CORPUS_hard (or --hard FOLDER), comes the same corpus by hard labels:
links to the audio, the same folds, a label of 1 for every second above 0.5. Each seed trains five folds on either; the
two runs of a seed begin with the same weights and hear the same seconds in the same order. All are judged by CORPUS:
F1 by its hard labels, which both share, the rest by its soft labels; `calibrated` is after a slope and an offset a
class, fitted on the soft labels of each fold's validation recordings. Stopped, the same command goes on; what is
finished is only printed.
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from sedsoft.core import FileError, make_rng, to_json, with_settings, write_text
from sedsoft.corpus import ANNOTATION, AUDIO, Corpus, fingerprint, read_corpus, write_folds
from sedsoft.evaluation import Judged, chance, compare, intervals, oracle_and_validated, references_of, soft_table
from sedsoft.experiment import judge_run, run_experiment
from sedsoft.labels import is_hard, write_labels
from sedsoft.metrics import mean_f1
from sedsoft.runs import Config, Run, find_config
from sedsoft.scores import read_score_folder, segment_scores
from sedsoft.thresholds import Calibration, fit_calibration

F1 = {"f1_mo": "F1_MO (%)", "f1_validated": "validated F1 (%)"}
SOFT = {"f_soft": "fuzzy F (%)", "brier": "Brier (%)", "kl": "KL (nats)", "ece": "calibration error (%)"}
CALIBRATED = {f"{key}_calibrated": f"{SOFT[key]} calibrated" for key in ("brier", "kl", "ece")}
COLUMNS = F1 | SOFT | CALIBRATED


def make_hard(corpus: Corpus, root: Path) -> Corpus:
    """Write the corpus with hard labels, or what is missing of it, and read it."""
    note, made_with = root / "made_with.json", to_json({"hard_labels_of": fingerprint(corpus)})
    if not (corpus.root / AUDIO).is_dir():
        raise FileError(corpus.root, f"has no {AUDIO}: must be a corpus in MAESTRO's layout")
    if root.exists() and any(root.iterdir()) and not (note.is_file() and note.read_text() == made_with):
        raise FileError(root, "is there and is not this corpus by hard labels: give another folder with --hard")
    write_text(note, made_with)
    write_folds(root, corpus.folds, corpus.recordings)
    for recording in corpus.recordings:
        second, column = np.nonzero(is_hard(corpus.soft_labels(recording.name)))
        labels = pd.DataFrame({"onset": second, "offset": second + 1, "label": np.array(corpus.classes)[column]})
        annotation = root / ANNOTATION / f"soft_labels_{recording.scene}" / f"{recording.audio.stem}.txt"
        write_labels(annotation, labels.assign(value=1.0))
        link = root / AUDIO / recording.scene / recording.audio.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(recording.audio.resolve(), link.parent.resolve()))
    return read_corpus(root)


def check_pair(soft: Corpus, hard: Corpus) -> None:
    """Fail unless the two differ in nothing but their labels, and agree on the hard ones."""
    assert soft.folds == hard.folds
    for ours, theirs in zip(soft.recordings, hard.recordings, strict=True):
        assert ours.audio.resolve() == theirs.audio.resolve()
        assert np.array_equal(is_hard(soft.soft_labels(ours.name)), hard.soft_labels(theirs.name))


def calibrations_of(run: Run, corpus: Corpus, folds: list[int]) -> dict[int, Calibration]:
    """What the soft labels of each fold's validation recordings teach about its scores."""
    columns = [corpus.classes.index(name) for name in corpus.evaluated]
    spec, found = run.config.model, {}
    for fold in folds:
        val = corpus.split(fold, "val")
        names = [item.name for item in val]
        tables = read_score_folder(run.fold(fold) / "validation_scores", corpus.evaluated, names)
        scores = np.concatenate([segment_scores(tables[item.name], item.n_segments) for item in val])
        soft = np.concatenate([corpus.soft_labels(name)[:, columns] for name in names])
        found[fold] = fit_calibration(scores, soft, "sigmoid" if spec.scoring.softmax else spec.activation)
    return found


def judge_by_opinions(run: Run, trained_on: Corpus, corpus: Corpus, folds: list[int]) -> Judged:
    """A run with the soft labels of the corpus, whatever it was trained on."""
    references, calibrations = tuple(references_of(corpus, folds)), calibrations_of(run, corpus, folds)
    return replace(judge_run(run, trained_on, folds), references=references, calibrations=calibrations)


def figures_of(judged: Judged) -> dict[str, float]:
    """The columns of the table."""
    f1 = dict(zip(F1, map(mean_f1, oracle_and_validated(judged)), strict=True))
    return f1 | soft_table(judged).mean()[[*SOFT, *CALIBRATED]].to_dict()


def cell(key: str, value: float, sign: str = "") -> str:
    """A figure as the table prints it: nats with four digits, all else in percent with two."""
    return f"{value:{sign}.4f}" if key.startswith("kl") else f"{100 * value:{sign}.2f}"


def ends(key: str, pair: list[float] | None) -> str:
    """Two ends of 95 %, or nothing."""
    return "" if pair is None else " ({} to {})".format(*(cell(key, end) for end in pair))


def print_row(
    name: str, figures: dict[str, float], intervals_of: dict[str, list[float] | None], sign: str = ""
) -> None:
    """A line of the table, with 95 % of resamples of the recordings where they are known."""
    cells = [cell(key, figures[key], sign) + ends(key, intervals_of.get(key)) for key in COLUMNS]
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def train(config: Config, name: str, corpora: dict[str, Corpus], folds: list[int], out: Path) -> dict[str, Judged]:
    """The two runs of a seed, trained, or what is left of it, and judged."""
    judged = {}
    for kind, each in corpora.items():
        run = run_experiment(out / f"{name}_{kind}", config, each, folds)
        judged[kind] = judge_by_opinions(run, each, corpora["soft"], folds)
        print_row(
            f"{kind}, seed {config.seed}", figures_of(judged[kind]), intervals(judged[kind], make_rng(0, "intervals"))
        )
    return judged


def print_differences(differences: list[dict[str, float]]) -> None:
    """Mean and spread of soft minus hard over the seeds."""
    table = pd.DataFrame(differences)
    print_row(f"soft - hard, mean of {len(table)} seeds", table.mean().to_dict(), {}, "+")
    if len(table) > 1:
        print_row("its deviation over the seeds", table.std().to_dict(), {})


def main() -> None:
    """Make the hard corpus, train what is not trained yet, and print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the corpus with soft labels; without it nothing is done")
    parser.add_argument("--hard", type=Path, help="for the corpus with hard labels; beside the other if not given")
    parser.add_argument("--config", default="crnn", help="a shipped configuration, or a TOML file")
    parser.add_argument("--epochs", type=int, default=30, help="at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="two runs each")
    parser.add_argument("--folds", type=int, nargs="+", help="all, if not given")
    parser.add_argument("--threads", type=int, default=1, help="of the processor")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="for the run folders")
    args = parser.parse_args()
    if args.data is None:
        print("nothing done: it takes hours, and --data CORPUS")
        return
    corpus = read_corpus(args.data)
    data = args.data.resolve()
    corpora = {"soft": corpus, "hard": make_hard(corpus, args.hard or data.with_name(f"{data.name}_hard"))}
    check_pair(*corpora.values())
    folds, differences = args.folds or sorted(corpus.folds), []
    print(f"| trained on | {' | '.join(COLUMNS.values())} |\n|---|{'---|' * len(COLUMNS)}")
    for seed in args.seeds:
        settings = [f"seed={seed}", f"training.epochs={args.epochs}", f"training.threads={args.threads}"]
        config = with_settings(find_config(args.config), settings)
        judged = train(config, f"{config.name}{args.epochs}_seed{seed}", corpora, folds, args.out)
        soft, hard = (figures_of(each) for each in judged.values())
        gains = compare(*judged.values(), make_rng(0, "intervals"))
        differences.append({key: soft[key] - hard[key] for key in COLUMNS})
        print_row(f"soft - hard, seed {seed}", differences[-1], {key: gain["ci"] for key, gain in gains.items()}, "+")
    print_differences(differences)
    print(f"\nknowing the scene alone: F1_MO {100 * chance(judged['soft']):.2f} %")


if __name__ == "__main__":
    main()
