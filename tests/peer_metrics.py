"""Run by the peers' interpreter, not ours: sed_scores_eval 0.0.4 and sed_eval 0.2.1 on the cases of a file, as JSON.

    python tests/peer_metrics.py CASES.npz > results.json

`test_peers.py` and `bench/metrics.py` write the cases and read the results.
"""

import contextlib
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np

CALLS = {}


def call(function):
    """Make a function one that a case can ask for."""
    CALLS[function.__name__] = function
    return function


def tables_of(case: dict) -> dict:
    """Score tables as sed_scores_eval wants them."""
    from sed_scores_eval.base_modules.scores import create_score_dataframe

    names = range(len(case["durations"]))
    return {f"r{k}": create_score_dataframe(case[f"values{k}"], case[f"edges{k}"], case["classes"]) for k in names}


def events_of(case: dict) -> dict:
    """Hard labels as events, neighbouring seconds joined, as sed_scores_eval wants them."""
    events = {}
    for k in range(len(case["durations"])):
        steps = np.diff(case[f"hard{k}"].astype(int), axis=0, prepend=0, append=0)
        events[f"r{k}"] = [
            (float(onset), float(end), name)
            for c, name in enumerate(case["classes"])
            for onset, end in zip(np.flatnonzero(steps[:, c] == 1), np.flatnonzero(steps[:, c] == -1), strict=True)
        ]
    return events


def best(case: dict, durations: list, **options) -> dict:
    """The best F1 of each class, its threshold and counts, and how long it took."""
    from sed_scores_eval import segment_based

    tables, events = tables_of(case), events_of(case)
    lengths = {f"r{k}": float(duration) for k, duration in enumerate(durations)}
    begin = time.perf_counter(), time.process_time()
    f1, precision, recall, threshold, counts = segment_based.best_fscore(
        tables, events, lengths, segment_length=1.0, **options
    )
    spent_s = time.perf_counter() - begin[0], time.process_time() - begin[1]
    rows = {
        name: [f1[name], precision[name], recall[name], threshold[name]]
        + [counts[name][key] for key in ("tps", "fps", "n_ref")]
        for name in case["classes"]
    }
    return {"rows": rows, "mean": f1["macro_average"], "spent_s": spent_s}


@call
def exact(case: dict) -> dict:
    """Whole seconds, six decimals."""
    return best(case, [len(case[f"hard{k}"]) for k in range(len(case["durations"]))])


@call
def official(case: dict) -> dict:
    """The official baseline's call."""
    return best(case, case["durations"].tolist(), time_decimals=30)


@call
def from_files(case: dict) -> dict:
    """Whole seconds, from a folder of score files."""
    from sed_scores_eval import segment_based

    lengths = {f"r{k}": float(len(case[f"hard{k}"])) for k in range(len(case["durations"]))}
    f1, *_ = segment_based.best_fscore(Path(str(case["folder"])), events_of(case), lengths, segment_length=1.0)
    return f1


@call
def auroc(case: dict) -> dict:
    """Partial areas up to a false positive rate of 0.1, by class."""
    from sed_scores_eval import segment_based

    lengths = {f"r{k}": float(len(case[f"hard{k}"])) for k in range(len(case["durations"]))}
    areas, _ = segment_based.auroc(tables_of(case), events_of(case), lengths, segment_length=1.0, max_fpr=0.1)
    return areas


@call
def joined(case: dict) -> dict:
    """The official baseline's segment-based figures: events of joined frames, a fold after the other."""
    import dcase_util
    import sed_eval

    metrics = sed_eval.sound_event.SegmentBasedMetrics(event_label_list=case["classes"], time_resolution=1.0)

    def to_events(active: np.ndarray) -> "dcase_util.containers.MetaDataContainer":
        found = []
        for c, name in enumerate(case["classes"]):
            steps = np.diff(active[:, c].astype(int), prepend=0, append=0)
            runs = np.stack([np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)], axis=1)
            for onset, end in np.floor(runs * float(case["hop_s"])):
                event = {"event_onset": onset, "event_offset": end, "event_label": name}
                found.append(dcase_util.containers.MetaDataItem(event))
        events = dcase_util.containers.MetaDataContainer(found)
        events = events.process_events(minimum_event_length=None, minimum_event_gap=0.1)
        return events.process_events(minimum_event_length=0.1, minimum_event_gap=None)

    for k in range(int(case["n_folds"])):
        metrics.evaluate(to_events(case[f"there{k}"]), to_events(case[f"said{k}"]))
    return {
        "error_rate": metrics.overall_error_rate()["error_rate"],
        "f1_micro": metrics.overall_f_measure()["f_measure"],
        "f1_macro": metrics.results_class_wise_average_metrics()["f_measure"]["f_measure"],
    }


def plain(value):
    """Nested results as JSON knows them, NaN and infinities by name."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return float(value)


def main() -> None:
    """Answer each case of the file, or say how it was refused."""
    stored = np.load(Path(sys.argv[1]), allow_pickle=False)
    cases: dict[str, dict] = {}
    for key in stored.files:
        name, field = key.split("/")
        cases.setdefault(name, {})[field] = stored[key]
    results: dict[str, dict] = {}
    for name, case in cases.items():
        case["classes"] = [str(entry) for entry in case["classes"]]
        for wanted in case["calls"].tolist():
            key = f"{name}/{wanted}"
            spent_s = results.get(key, {}).get("spent_s", [])  # a call may be asked for more than once, to time it
            try:
                with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    results[key] = plain(CALLS[wanted](case))
            except (AssertionError, ValueError) as error:
                results[key] = {"refused": str(error)}
            if "spent_s" in results[key]:
                results[key]["spent_s"] = [*spent_s, results[key]["spent_s"]]
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main()
