"""The best configuration against the official baseline, and what each ingredient adds: rows for bench.md.

    python bench/best.py --data CORPUS --out DIR [--configs best baseline] [--seeds 0 1 2] [--set training.epochs=20]
    python bench/best.py --data CORPUS --out DIR --ingredients [--seeds 0]

The first trains five folds of each configuration and seed, in turns, and compares every configuration with the last
one. The second trains `best`, one network of it, and that one without one ingredient after the other. One thread.
Stopped, the same command goes on, and what is finished is only printed. DIR/figures.csv has a line a run: F1_MO and
validated F1 in %, with the ends of their intervals, the chance level, and the minutes of the processor that training
and scoring took.
"""

import argparse
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pandas as pd

from sedsoft.core import make_rng, read_json, to_json, with_settings, write_text
from sedsoft.corpus import Corpus, describe, read_corpus
from sedsoft.evaluation import Judged, compare_seeds, evaluate
from sedsoft.experiment import gather, judge_run, n_threads, run_fold
from sedsoft.models import ScoringSpec
from sedsoft.runs import Config, find_config, is_finished, locked, start_run


def without_ingredients(best: Config) -> dict[str, Config]:
    """The best configuration, one network of it, and that without one thing after the other."""
    one = with_settings(best, ["model.n_networks=1"])
    backbone = replace(one.model.backbone, quiet=None)
    as_they_come = replace(one, model=replace(one.model, backbone=backbone))
    plateau = ["training.schedule=plateau", "training.keep=best", "training.learning_rate=0.001"]
    return {
        "best": best,
        "one network": one,
        "soft labels as they are": with_settings(one, ["loss.sharpness=0.0"]),
        "squared error": with_settings(one, ["loss.name=mse"]),
        "levels as they come": as_they_come,
        "30 epochs": with_settings(one, ["training.epochs=30"]),
        "heard whole": replace(one, model=replace(one.model, scoring=ScoringSpec())),
        "frames of 200 ms": with_settings(one, ["features.hop=3200", "features.win=6400", "model.backbone.block=1"]),
        "steps down, best epoch kept": with_settings(one, plateau),
    }


def train(folder: Path, config: Config, corpus: Corpus) -> tuple[Judged, dict[str, float]]:
    """Train what is not trained yet; the run's scores, and its figures."""
    run = start_run(folder, config, describe(corpus))
    waiting = [fold for fold in sorted(corpus.folds) if not is_finished(run, fold)]
    with locked(run), n_threads(1):
        material = gather(corpus, config) if waiting else None
        for fold in waiting:
            is_new, began_s = not run.fold(fold).exists(), time.process_time()
            run_fold(run, corpus, material, fold)
            if is_new:
                minutes = (time.process_time() - began_s) / 60
                write_text(run.fold(fold) / "cost.json", to_json({"minutes": minutes}))
    judged = judge_run(run, corpus)
    metrics, figures = evaluate(judged, make_rng(0, "intervals")), {}
    for key in ("f1_mo", "f1_validated"):
        low, high = metrics["ci"][key]
        figures |= {key: 100 * metrics[key], f"{key}_low": 100 * low, f"{key}_high": 100 * high}
    costs = [run.fold(fold) / "cost.json" for fold in run.folds]  # not there if a fold was stopped in between
    minutes = sum(read_json(path)["minutes"] if path.is_file() else float("nan") for path in costs)
    return judged, figures | {"chance": 100 * metrics["chance"], "minutes": minutes}


def main() -> None:
    """Train, print a line a run, then the differences."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a corpus folder; without it nothing is done")
    parser.add_argument("--out", type=Path, default=Path("runs/best"), help="where the runs are kept")
    parser.add_argument("--configs", nargs="+", default=["best", "baseline"])
    parser.add_argument("--set", nargs="*", default=[], help="settings of all of them, section.key=value")
    parser.add_argument("--ingredients", action="store_true", help="best, one network, one thing less at a time")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    if args.data is None:
        print("nothing done: it takes hours, and --data CORPUS")
        return
    corpus, table, judged = read_corpus(args.data), args.out / "figures.csv", defaultdict(list)
    named = {name: with_settings(find_config(name), args.set) for name in args.configs}
    rows = without_ingredients(find_config("best")) if args.ingredients else named
    for seed in args.seeds:
        for name, config in rows.items():
            config = replace(with_settings(config, ["training.threads=1"]), seed=seed)
            folder = args.out / f"{name.replace(' ', '_').replace(',', '')}_seed{seed}"
            scored, figures = train(folder, config, corpus)
            judged[name].append(scored)
            print(f"{name}, seed {seed}:", ", ".join(f"{key} {x:.2f}" for key, x in figures.items()), flush=True)
            line = pd.DataFrame([{"row": name, "seed": seed, **figures}]).round(2)
            known = [pd.read_csv(table), line] if table.is_file() else [line]
            frame = pd.concat(known).drop_duplicates(["row", "seed"], keep="last")
            write_text(table, frame.to_csv(index=False, lineterminator="\n"))
    against = dict.fromkeys(args.configs[:-1], args.configs[-1])
    if args.ingredients:
        against = dict.fromkeys(list(rows)[2:], "one network") | {"one network": "best"}
    for name, other in against.items():
        gain = compare_seeds(judged[name], judged[other], make_rng(0, "best"))["f1_mo"]
        ends = ", ".join(f"{100 * end:+.1f}" for end in gain["ci"] or ()) or "no interval"
        print(f"{name} - {other}: {100 * gain['difference']:+.1f} [{ends}] points of F1_MO", flush=True)


if __name__ == "__main__":
    main()
