"""The official baseline's network and training on real labels and mixed sounds, as rows for bench.md.

    python bench/baseline.py --data CORPUS [--epochs 150] [--seeds 0] [--out runs/bench]

CORPUS is what `maestro-bench/make.py CORPUS --seed 1` writes. A run takes an hour for 20 epochs and five for 150;
stopped, the same command goes on, and what is finished is only printed.
"""

import argparse
from pathlib import Path

from sedsoft.core import make_rng, with_settings
from sedsoft.corpus import read_corpus
from sedsoft.evaluation import evaluate
from sedsoft.experiment import judge_run, run_experiment
from sedsoft.runs import find_config


def main() -> None:
    """Train what is not trained yet, and print a row a seed."""
    parser = argparse.ArgumentParser(description="The official baseline on the bench corpus.")
    parser.add_argument("--data", type=Path, help="the corpus; without it nothing is done")
    parser.add_argument("--epochs", type=int, default=150, help="at most")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run each")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), help="for the run folders")
    args = parser.parse_args()
    if args.data is None:
        print("nothing done: it takes hours, and --data CORPUS")
        return
    corpus = read_corpus(args.data)
    print("| run | F1_MO (%) | 95 % of resamples | validated F1 (%) | 95 % of resamples | chance (%) |")
    print("|---|---|---|---|---|---|")
    for seed in args.seeds:
        settings = [f"seed={seed}", f"training.epochs={args.epochs}", "training.threads=1"]
        config = with_settings(find_config("baseline"), settings)
        run = run_experiment(args.out / f"baseline{args.epochs}_seed{seed}", config, corpus)
        figures = evaluate(judge_run(run, corpus), make_rng(0, "intervals"))
        cells = [f"{args.epochs} epochs, seed {seed}"]
        for key in ("f1_mo", "f1_validated"):
            low, high = figures["ci"][key]
            cells += [f"{100 * figures[key]:.2f}", f"{100 * low:.2f} to {100 * high:.2f}"]
        print(f"| {' | '.join(cells)} | {100 * figures['chance']:.2f} |", flush=True)


if __name__ == "__main__":
    main()
