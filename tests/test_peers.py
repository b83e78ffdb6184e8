"""Figures that others publish come from their tools; ours are held against those tools, live, to the last digit.

The peers (sed_scores_eval 0.0.4, sed_eval 0.2.1) live in an environment of their own. One call of it answers all cases.
"""

import json
import math
import subprocess
from pathlib import Path

import maestro
import numpy as np
import pandas as pd
import pytest
from shared import peers_python

from sedsoft.labels import EVALUATED
from sedsoft.metrics import best_f1, f1_mo, mean_f1, pool
from sedsoft.published import (
    f1_mo_official,
    join_fold,
    mpauc,
    official_best_f1,
    official_pool,
    partial_auroc,
    segment_measures,
    whole_seconds,
)
from sedsoft.scores import Scores, frame_scores, write_scores

SCRIPT = Path(__file__).with_name("peer_metrics.py")
SCORED = ["exact", "official", "auroc"]


def small_case(seed: int) -> dict:
    """A few short recordings; half of the cases have scores of few different values, some in single precision."""
    rng = np.random.default_rng(seed)
    n_classes, n_levels = rng.integers(1, 4), rng.integers(2, 6)
    hop_s = float(rng.choice([0.05, 0.1, 0.2, 0.25, 0.5, 1.0]))
    case: dict = {"classes": [f"class {c}" for c in range(n_classes)], "calls": SCORED, "durations": []}
    for k in range(rng.integers(1, 5)):
        n_segments = int(rng.integers(1, 40))
        values = rng.standard_normal((n_segments * round(1 / hop_s), n_classes))
        if seed % 2:
            values = (values * n_levels).round() / n_levels
        hard = rng.random((n_segments, n_classes)) < 0.4
        hard[0] |= k == 0
        case |= {f"values{k}": values.astype(np.float32) if seed % 3 == 0 else values, f"hard{k}": hard}
        case[f"edges{k}"] = np.arange(len(values) + 1) * hop_s
        case["durations"].append(n_segments + rng.uniform(0.0, 0.99))
    return case


def uneven_case(seed: int) -> dict:
    """Frames of many lengths that begin late, end early, reach over seconds or beyond the end."""
    rng = np.random.default_rng(seed)
    case: dict = {"classes": ["a", "b"], "calls": ["exact", "official"], "durations": [9.4, 7.0]}
    for k, n_segments in enumerate((9, 7)):
        edges = np.sort(rng.choice(np.arange(rng.integers(0, 15), 110), 30, replace=False)) / 10
        case |= {f"edges{k}": edges, f"values{k}": rng.random((29, 2)), f"hard{k}": rng.random((n_segments, 2)) < 0.5}
    case["hard0"][0] = True
    return case


def frames_case(seed: int) -> dict:
    """Frames of decisions and of labels, in runs of random lengths, for several folds."""
    rng = np.random.default_rng(seed)
    hop_s = float(rng.choice([0.05, 0.1, 0.2, 0.25, 1 / 3, 0.4, 1.0]))
    case: dict = {"classes": ["a", "b", "c"], "calls": ["joined"], "hop_s": hop_s, "n_folds": int(rng.integers(1, 4))}
    for k in range(case["n_folds"]):
        n_frames = int(rng.integers(3, 300))
        for field, rate in (("said", 0.2), ("there", 0.1)):
            changes = rng.random((n_frames, 3)) < rate
            case[f"{field}{k}"] = np.cumsum(changes, axis=0) % 2 == 1
            if seed % 4 == 0:
                case[f"{field}{k}"][:, 2] = False
    if seed % 5 == 0:
        case |= {f"said{k}": np.zeros_like(case[f"said{k}"]) for k in range(case["n_folds"])}
    return case


def real_case(tables: dict[str, Scores], corpus: maestro.Maestro, calls: list[str]) -> dict:
    """The real labels under some scores."""
    case: dict = {"classes": list(EVALUATED), "calls": calls, "durations": list(corpus.durations_s.values())}
    for k, name in enumerate(corpus.hard):
        case |= {f"edges{k}": tables[name].edges_s, f"values{k}": tables[name].values, f"hard{k}": corpus.hard[name]}
    return case


def fold_frames(tables: dict[str, Scores], corpus: maestro.Maestro) -> dict:
    """The test recordings of the official folds, joined, at five frames a second."""
    case: dict = {"classes": list(EVALUATED), "calls": ["joined"], "hop_s": 0.2, "n_folds": len(corpus.test)}
    for k, names in enumerate(corpus.test.values()):
        case[f"said{k}"] = np.concatenate([tables[name].values for name in names]) > 0.5
        case[f"there{k}"] = np.repeat(np.concatenate([corpus.hard[name] for name in names]), 5, axis=0)
    return case


@pytest.fixture(scope="module")
def corpus() -> maestro.Maestro:
    """The labels of MAESTRO Real."""
    return maestro.read()


@pytest.fixture(scope="module")
def real_tables(corpus: maestro.Maestro) -> dict[str, dict[str, Scores]]:
    """Three systems: noisy labels (tied where clipped), the scene's share, and frames that go on to the very end."""
    rng = np.random.default_rng(0)
    noisy = {
        name: np.clip(0.6 * np.repeat(soft, 5, axis=0) + rng.normal(0, 0.25, (5 * len(soft), 11)), 0, 1)
        for name, soft in corpus.soft.items()
    }
    to_the_end = {name: rng.random((math.ceil(corpus.durations_s[name] / 0.2), 11)) for name in corpus.soft}
    prior = {name: np.repeat(share, 5, axis=0) for name, share in maestro.scene_prior(corpus).items()}
    systems = {"noisy": noisy, "prior": prior, "to the end": to_the_end}
    return {
        system: {name: frame_scores(name, EVALUATED, values[name].astype(np.float32), 0.2) for name in values}
        for system, values in systems.items()
    }


@pytest.fixture(scope="module")
def cases(corpus: maestro.Maestro, real_tables: dict, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """All cases by name."""
    found = {f"small {seed}": small_case(seed) for seed in range(40)}
    found |= {f"uneven {seed}": uneven_case(seed) for seed in range(8)}
    found |= {f"frames {seed}": frames_case(seed) for seed in range(20)}
    calls = {"noisy": SCORED, "prior": ["exact", "auroc"], "to the end": ["official"]}
    found |= {f"real {system}": real_case(real_tables[system], corpus, calls[system]) for system in calls}
    found["folds"] = fold_frames(real_tables["noisy"], corpus)
    folder = tmp_path_factory.mktemp("scores")
    found["files"] = small_case(3) | {"calls": ["exact", "from_files"], "folder": str(folder)}
    for name, table in tables_and_labels(found["files"])[0].items():
        write_scores(folder / f"{name}.tsv", table)
    silent = small_case(1001)
    assert len(silent["classes"]) > 1
    for k in range(len(silent["durations"])):
        silent[f"hard{k}"][:, -1] = False
    found["silent class"] = silent
    return found


@pytest.fixture(scope="module")
def answers(cases: dict[str, dict], tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """What the peers say to all cases, asked once."""
    path = tmp_path_factory.mktemp("peers") / "cases.npz"
    np.savez(path, **{f"{name}/{field}": value for name, case in cases.items() for field, value in case.items()})
    done = subprocess.run([peers_python(), SCRIPT, path], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def tables_and_labels(case: dict) -> tuple[dict[str, Scores], dict[str, np.ndarray], dict[str, float]]:
    """A case as our functions take it."""
    numbers = range(len(case["durations"]))
    classes = tuple(case["classes"])
    tables = {f"r{k}": Scores(f"r{k}", classes, case[f"edges{k}"], case[f"values{k}"]) for k in numbers}
    return tables, {f"r{k}": case[f"hard{k}"] for k in numbers}, {f"r{k}": case["durations"][k] for k in numbers}


def assert_same(ours: pd.DataFrame, theirs: dict) -> None:
    """The same counts; F1, precision and recall to 1e-12, and the threshold where it is not below all scores."""
    for name, (f1, precision, recall, threshold, tp, fp, n_hard) in theirs["rows"].items():
        row = ours.loc[name]
        assert (row["tp"], row["fp"], row["n_hard"]) == (tp, fp, n_hard), name
        np.testing.assert_allclose(row[["f1", "precision", "recall"]], [f1, precision, recall], rtol=0, atol=1e-12)
        if threshold != -math.inf:
            np.testing.assert_allclose(row["threshold"], threshold, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean_f1(ours), theirs["mean"], rtol=0, atol=1e-12)


def scored(cases: dict[str, dict], call: str) -> list[str]:
    """The names of the cases that ask for a call and are not made to be refused."""
    return [name for name, case in cases.items() if call in case["calls"] and name != "silent class"]


@pytest.mark.filterwarnings("ignore:r[0-9]. scores end")
def test_f1_mo_exact_is_the_peers(cases: dict, answers: dict):
    names = scored(cases, "exact")
    assert len(names) == 51
    for name in names:
        tables, hard, _ = tables_and_labels(cases[name])
        pooled = pool(tables, hard, cases[name]["classes"])
        assert_same(best_f1(*pooled, cases[name]["classes"]), answers[f"{name}/exact"])
        np.testing.assert_allclose(f1_mo(*pooled), answers[f"{name}/exact"]["mean"], rtol=0, atol=1e-12)


def test_f1_mo_official_is_the_peers(cases: dict, answers: dict):
    for name in scored(cases, "official"):
        inputs = (*tables_and_labels(cases[name]), cases[name]["classes"])
        assert_same(official_best_f1(*inputs), answers[f"{name}/official"])
        np.testing.assert_allclose(f1_mo_official(*inputs), answers[f"{name}/official"]["mean"], rtol=0, atol=1e-12)


def test_official_reading_leaks_positives_on_the_real_labels(cases: dict, answers: dict):
    case = cases["real noisy"]
    _, reference = official_pool(*tables_and_labels(case), case["classes"])
    assert reference.sum() == sum(row[-1] for row in answers["real noisy/official"]["rows"].values()) == 14290
    assert len(reference) == 11369 + 49


def test_partial_auroc_as_a_staircase_is_the_released_peers(cases: dict, answers: dict):
    n_told = 0
    for name in scored(cases, "auroc"):
        tables, hard, _ = tables_and_labels(cases[name])
        scores, reference = pool(tables, hard, cases[name]["classes"])
        areas = [partial_auroc(*column, staircase=True) for column in zip(scores.T, reference.T, strict=True)]
        theirs = [answers[f"{name}/auroc"][label] for label in cases[name]["classes"]]
        told = ~np.isnan(areas)  # all positive: no false positive rate, and theirs is a division by zero
        np.testing.assert_allclose(np.array(areas)[told], np.array(theirs)[told], rtol=0, atol=1e-12)
        n_told += told.sum()
    assert n_told > 100


def test_our_files_are_read_by_the_peer_to_the_same_end(answers: dict):
    from_memory, from_files = answers["files/exact"], answers["files/from_files"]
    assert from_files["macro_average"] == from_memory["mean"]
    assert [from_files[name] for name in from_memory["rows"]] == [row[0] for row in from_memory["rows"].values()]


def test_ties_alone_part_the_staircase_from_the_diagonal(cases: dict, answers: dict):
    for name, is_tied in (("small 2", False), ("real noisy", True), ("real prior", True)):
        tables, hard, _ = tables_and_labels(cases[name])
        scores, reference = pool(tables, hard, cases[name]["classes"])
        staircase = answers[f"{name}/auroc"]["mean"]
        assert (abs(mpauc(scores, reference) - staircase) > 1e-12) == is_tied


def test_class_without_positives_is_refused_there_and_named_here(cases: dict, answers: dict):
    case = cases["silent class"]
    assert "No ground truth events for classes" in answers["silent class/exact"]["refused"]
    tables, hard, _ = tables_and_labels(case)
    with pytest.warns(UserWarning, match=f"no positives of {case['classes'][-1]}: no F1"):
        ours = best_f1(*pool(tables, hard, case["classes"]), case["classes"])
    assert ours.iloc[-1][["f1", "precision", "recall", "threshold"]].isna().all()
    assert not math.isnan(mean_f1(ours))


def test_frames_joined_in_time_are_counted_as_sed_eval_does(cases: dict, answers: dict):
    names = scored(cases, "joined")
    assert len(names) == 21
    n_told = 0
    for name in names:
        case = cases[name]
        parts = []
        for field in ("said", "there"):
            frames = [case[f"{field}{k}"] for k in range(case["n_folds"])]
            edges = [np.arange(len(part) + 1) * case["hop_s"] for part in frames]
            parts.append(np.concatenate(list(map(whole_seconds, frames, edges))))
        ours = segment_measures(*parts)
        theirs = answers[f"{name}/joined"]
        if parts[1].any():  # without references sed_eval divides by 2e-16
            np.testing.assert_allclose(ours.error_rate, theirs["error_rate"], rtol=1e-12)
        np.testing.assert_allclose(ours.f1_micro, theirs["f1_micro"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.f1_macro, theirs["f1_macro"], rtol=0, atol=1e-12)
        n_told += not math.isnan(ours.f1_macro)
    assert n_told > 10


def test_folds_of_the_real_recordings_are_joined_as_the_baseline_does(
    corpus: maestro.Maestro, real_tables: dict, answers: dict
):
    tables = real_tables["noisy"]
    folds = [
        join_fold([tables[name] for name in names], [corpus.soft[name] for name in names])
        for names in corpus.test.values()
    ]
    ours = segment_measures(*(np.concatenate(parts) for parts in zip(*folds, strict=True)))
    theirs = answers["folds/joined"]
    np.testing.assert_allclose([ours.error_rate, ours.f1_micro, ours.f1_macro], list(theirs.values()), atol=1e-12)
