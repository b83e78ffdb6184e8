"""F1_MO (exact) of MAESTRO Real's 49 recordings: ours against sed_scores_eval 0.0.4, as rows for bench.md.

    python bench/metrics.py [--peers .peers/bin/python] [--shared ../shared] [--rounds 5]

11,369 seconds of five frames, 11 classes, from score tables in memory on both sides: DataFrames and lists of events
there, `Scores` and hard labels here. Each round starts the peer anew, lets it count three times, then us a dozen times;
both on one thread. Medians are printed, by the clock and by the processor (which other work on the machine troubles
less), and the counts must agree.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ONE_THREAD = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"], "1")
os.environ |= ONE_THREAD

import numpy as np  # noqa: E402 (the number of threads is read when numpy is imported)
import pandas as pd  # noqa: E402

from sedsoft.labels import EVALUATED, is_hard  # noqa: E402
from sedsoft.metrics import best_f1, mean_f1, pool  # noqa: E402
from sedsoft.scores import Scores, frame_scores  # noqa: E402

REPEATS, OUR_REPEATS = 3, 12


def read_labels(shared: Path) -> dict[str, np.ndarray]:
    """Recording -> soft labels, (S, 11)."""
    table = pd.read_csv(shared / "maestro-real" / "soft_labels.tsv", sep="\t")
    return {name: rows[list(EVALUATED)].to_numpy() for name, rows in table.groupby("filename", sort=False)}


def make_tables(soft: dict[str, np.ndarray], dtype: type) -> dict[str, Scores]:
    """Scores of a system that half knows the labels, five frames a second, no two alike."""
    rng = np.random.default_rng(0)
    values = {
        name: np.repeat(0.5 * labels, 5, axis=0) + rng.normal(0, 0.25, (5 * len(labels), 11))
        for name, labels in soft.items()
    }
    return {
        name: frame_scores(name, EVALUATED, frames.astype(np.float32).astype(dtype), 0.2)
        for name, frames in values.items()
    }


def write_case(path: Path, tables: dict[str, Scores], hard: dict[str, np.ndarray]) -> None:
    """What the peer reads before it starts its clock."""
    case = {"classes": list(EVALUATED), "calls": ["exact"] * REPEATS, "durations": list(map(len, hard.values()))}
    for k, name in enumerate(hard):
        case |= {f"edges{k}": tables[name].edges_s, f"values{k}": tables[name].values, f"hard{k}": hard[name]}
    np.savez(path, **{f"round/{field}": value for field, value in case.items()})


def time_peer(python: Path, case: Path) -> tuple[list[tuple], dict]:
    """Seconds by the clock and by the processor of each count of the peer, and what it counted."""
    script = ROOT / "tests" / "peer_metrics.py"
    done = subprocess.run([python, script, case], capture_output=True, text=True, env={**os.environ}, check=True)
    answer = json.loads(done.stdout)["round/exact"]
    return answer["spent_s"], answer


def time_ours(tables: dict[str, Scores], hard: dict[str, np.ndarray]) -> tuple[list[tuple], pd.DataFrame]:
    """Seconds by the clock and by the processor of each count of ours, and what we counted."""
    spent = []
    for _ in range(OUR_REPEATS):
        begin = time.perf_counter(), time.process_time()
        found = best_f1(*pool(tables, hard, EVALUATED), EVALUATED)
        mean_f1(found)
        spent.append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
    return spent, found


def check(ours: pd.DataFrame, theirs: dict) -> float:
    """The largest difference of an F1; counts must be the same."""
    for name, row in theirs["rows"].items():
        assert (ours.loc[name, "tp"], ours.loc[name, "fp"], ours.loc[name, "n_hard"]) == tuple(row[4:]), name
    by_class = [abs(ours.loc[name, "f1"] - row[0]) for name, row in theirs["rows"].items()]
    return max(*by_class, abs(mean_f1(ours) - theirs["mean"]))


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, default=ROOT / ".peers" / "bin" / "python", help="the peers' interpreter")
    parser.add_argument(
        "--shared", type=Path, default=ROOT.parent / "shared", help="the folder that holds maestro-real"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often both sides take their turn")
    args = parser.parse_args()
    soft = read_labels(args.shared)
    hard = {name: is_hard(labels) for name, labels in soft.items()}
    kinds = {"float32": make_tables(soft, np.float32), "float64": make_tables(soft, np.float64)}
    spent: dict[str, list[tuple]] = {"peer": [], **{kind: [] for kind in kinds}}
    apart = 0.0
    with tempfile.TemporaryDirectory() as folder:
        case = Path(folder) / "case.npz"
        write_case(case, kinds["float64"], hard)
        for turn in range(args.rounds):
            sys.stderr.write(f"round {turn + 1} of {args.rounds}\n")
            times, theirs = time_peer(args.peers, case)
            spent["peer"] += times
            for kind, tables in kinds.items():
                times, ours = time_ours(tables, hard)
                spent[kind] += times
                apart = max(apart, check(ours, theirs))
    medians = {side: [statistics.median(times) for times in zip(*spent[side], strict=True)] for side in spent}
    print("| F1_MO exact, 49 recordings, 11,369 s, 11 classes | wall time (ms) | CPU time (ms) | speed-up |")
    print("|---|---|---|---|")
    names = {"peer": "sed_scores_eval 0.0.4", "float32": "ours, float32 scores", "float64": "ours, float64 scores"}
    for side, name in names.items():
        clock_s, processor_s = medians[side]
        ratios = [round(peer_s / ours_s) for peer_s, ours_s in zip(medians["peer"], medians[side], strict=True)]
        print(f"| {name} | {1e3 * clock_s:.1f} | {1e3 * processor_s:.1f} | {ratios[0]} (processor: {ratios[1]}) |")
    print(f"\nLargest difference of an F1: {apart:.1e}; true and false positives are the same in all classes.")


if __name__ == "__main__":
    main()
