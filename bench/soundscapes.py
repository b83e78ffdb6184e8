"""How hard the embedded soundscapes are: what a constant, the scene alone and the demo's CRNN reach, for bench.md.

    python bench/soundscapes.py [--seeds 0 1] [--out runs/soundscapes]

Each seed is another corpus, and trains five folds of `demo.toml`: two minutes or three.
"""

import argparse
from pathlib import Path

import numpy as np

from sedsoft.corpus import read_corpus
from sedsoft.evaluation import chance, class_table
from sedsoft.experiment import judge_run, run_experiment
from sedsoft.metrics import f1_mo
from sedsoft.runs import find_config
from sedsoft.soundscapes import write_soundscapes


def main() -> None:
    """Write and train on a corpus a seed, and print a row for each."""
    parser = argparse.ArgumentParser(description="How hard the embedded soundscapes are.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1], help="one corpus each")
    parser.add_argument("--out", type=Path, default=Path("runs/soundscapes"), help="for corpora and runs")
    args = parser.parse_args()
    print("| corpus | constant | constant a scene | CRNN | CRNN, validated |")
    print("|---|---|---|---|---|")
    for seed in args.seeds:
        write_soundscapes(args.out / f"corpus{seed}", seed=seed)
        corpus = read_corpus(args.out / f"corpus{seed}")
        judged = judge_run(run_experiment(args.out / f"run{seed}", find_config("demo"), corpus), corpus)
        constant, crnn = f1_mo(np.zeros(judged.reference.shape), judged.reference), class_table(judged).loc["mean"]
        figures = constant, chance(judged), crnn["f1"], crnn["f1_validated"]
        print(f"| seed {seed} |" + "|".join(f" {100 * value:.1f} " for value in figures) + "|", flush=True)


if __name__ == "__main__":
    main()
