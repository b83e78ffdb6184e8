"""Metrics against brute force on inputs that nobody would think of, and the chance levels of the real labels."""

import itertools
import math
import warnings

import maestro
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sedsoft.evaluation import ReferenceRecording, chance, compare, evaluate, judge
from sedsoft.intervals import count_by_recording, draw_recordings, resampled_f1_mo
from sedsoft.labels import EVALUATED
from sedsoft.metrics import best_f1, brier, decide, f1_at, f1_mo, f_soft, kl_divergence, threshold_curve
from sedsoft.published import mpauc, partial_auroc, segment_measures, whole_seconds
from sedsoft.scores import frame_scores
from sedsoft.thresholds import (
    calibrate,
    calibration_error,
    decide_by_fold,
    fit_calibration,
    validated_f1,
    validated_thresholds,
)

TIED = st.sampled_from([-1.0, 0.0, 0.1, 0.5, 0.7, 1.0])
FREE = st.floats(-1e6, 1e6, allow_nan=False, width=32)


@st.composite
def scored_labels(draw: st.DrawFn, max_classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Scores, tied or free, in single or double precision, and hard labels: (N, C) each, N >= 1."""
    shape = draw(st.integers(1, 12)), draw(st.integers(1, max_classes))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    scores = draw(npst.arrays(dtype, shape, elements=draw(st.sampled_from([TIED.map(dtype), FREE]))))
    return scores, draw(npst.arrays(bool, shape))


def quiet_best_f1(scores: np.ndarray, reference: np.ndarray):
    """The table, without the warning for classes without positives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return best_f1(scores, reference)


def all_f1(scores: np.ndarray, is_hard: np.ndarray) -> dict[float, float]:
    """One class, every set of decisions a threshold can bring: lowest passing score -> F1, by counting."""
    return {
        lowest: 2 * np.sum(is_hard & (scores >= lowest)) / (np.sum(scores >= lowest) + np.sum(is_hard))
        for lowest in np.unique(scores.astype(float))
    }


@settings(max_examples=200, deadline=None)
@given(scored_labels())
def test_best_f1_is_what_counting_every_threshold_finds(inputs: tuple):
    scores, reference = inputs
    table = quiet_best_f1(scores, reference)
    for c in range(scores.shape[1]):
        row, column, is_hard = table.loc[c], scores[:, c], reference[:, c]
        if not is_hard.any():
            assert row[["f1", "precision", "recall", "threshold"]].isna().all()
            continue
        tried = all_f1(column, is_hard)
        np.testing.assert_allclose(row["f1"], max(tried.values()), rtol=1e-14)
        said = decide(column, row["threshold"])
        assert (row["tp"], row["fp"]) == (np.sum(said & is_hard), np.sum(said & ~is_hard))
        assert row["tp"] + row["fn"] == row["n_hard"] == is_hard.sum()


@settings(max_examples=200, deadline=None)
@given(scored_labels(max_classes=1))
def test_validated_threshold_is_the_middle_below_the_highest_of_the_best(inputs: tuple):
    scores, reference = inputs
    (threshold,) = validated_thresholds(scores, reference)
    if not reference.any():
        assert threshold == math.inf
        return
    tried = all_f1(scores[:, 0], reference[:, 0])
    lowest = max(score for score, f1 in tried.items() if f1 == max(tried.values()))
    below = [score for score in tried if score < lowest]
    if not below:
        assert threshold == np.nextafter(lowest, -np.inf)
    else:
        np.testing.assert_allclose(threshold, (lowest + max(below)) / 2, rtol=1e-15, atol=1e-300)
        assert max(below) <= threshold < lowest


@settings(max_examples=100, deadline=None)
@given(scored_labels(), st.randoms(use_true_random=False))
def test_order_of_segments_and_scale_of_scores_do_not_matter(inputs: tuple, random):
    scores, reference = inputs
    table = quiet_best_f1(scores, reference)
    order = random.sample(range(len(scores)), len(scores))
    shuffled = quiet_best_f1(scores[order], reference[order])
    assert shuffled.equals(table)
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in scores.T], axis=1)
    ranked = quiet_best_f1(ranks.astype(float), reference)
    counts = ["f1", "tp", "fp", "fn", "n_hard"]
    assert ranked[counts].equals(table[counts])


@settings(max_examples=40, deadline=None)
@given(scored_labels())
def test_no_threshold_beats_the_oracle(inputs: tuple):
    scores, reference = inputs
    best = quiet_best_f1(scores, reference)["f1"].to_numpy()
    for threshold in (-2e6, -0.5, 0.05, 0.5, 0.6, 1.0, np.inf):
        there = f1_at(scores, reference, threshold)["f1"].to_numpy()
        assert (np.isnan(there) == np.isnan(best)).all()
        assert (there[~np.isnan(best)] <= best[~np.isnan(best)] + 1e-15).all()


@settings(max_examples=100, deadline=None)
@given(scored_labels(max_classes=1))
def test_partial_auroc_is_the_share_of_pairs_in_order(inputs: tuple):
    scores, reference = inputs[0][:, 0], inputs[1][:, 0]
    pairs = list(itertools.product(scores[reference], scores[~reference]))
    if not pairs:
        assert math.isnan(partial_auroc(scores, reference, 1.0))
        return
    won = np.mean([(positive > negative) + 0.5 * (positive == negative) for positive, negative in pairs])
    lost = np.mean([positive > negative for positive, negative in pairs])
    np.testing.assert_allclose(partial_auroc(scores, reference, 1.0), won, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(partial_auroc(scores, reference, 1.0, staircase=True), lost, rtol=1e-12, atol=1e-15)
    halves = [partial_auroc(scores, reference, fpr) for fpr in (0.1, 0.5)]
    assert all(0 <= area <= 1 + 1e-12 for area in halves)


@settings(max_examples=100, deadline=None)
@given(npst.arrays(bool, st.tuples(st.integers(1, 30), st.just(2))), st.sampled_from([0.1, 0.2, 0.5, 1.0]))
def test_whole_seconds_are_those_that_events_rounded_down_fill(active: np.ndarray, hop_s: float):
    edges_s = np.arange(len(active) + 1) * hop_s
    filled = whole_seconds(active, edges_s)
    slow = np.zeros_like(filled)
    for c in range(2):
        begin = None
        for t in range(len(active) + 1):
            on = t < len(active) and active[t, c]
            if on and begin is None:
                begin = t
            if not on and begin is not None:
                slow[int(begin * hop_s) : int(t * hop_s), c] = True
                begin = None
    np.testing.assert_array_equal(filled, slow)


@settings(max_examples=100, deadline=None)
@given(npst.arrays(bool, (6, 3)), npst.arrays(bool, (6, 3)))
def test_error_rate_is_its_three_parts(said: np.ndarray, there: np.ndarray):
    measures = segment_measures(said, there)
    if not there.any():
        assert math.isnan(measures.error_rate)
        return
    missed, extra = (there & ~said).sum(axis=1), (said & ~there).sum(axis=1)
    substitutions = np.minimum(missed, extra)
    errors = substitutions + (missed - substitutions) + (extra - substitutions)
    np.testing.assert_allclose(measures.error_rate, errors.sum() / there.sum(), rtol=1e-14)


@settings(max_examples=50, deadline=None)
@given(scored_labels())
def test_inputs_are_left_as_they_were(inputs: tuple):
    scores, reference = inputs
    before = scores.copy(), reference.copy()
    quiet_best_f1(scores, reference)
    validated_thresholds(scores, reference)
    mpauc(scores, reference)
    threshold_curve(scores[:, 0], reference[:, 0])
    for measure in (f_soft, brier, kl_divergence, calibration_error):
        measure(scores, reference)
    calibrate(scores, fit_calibration(scores, reference, "linear"))
    assert (scores == before[0]).all()
    assert (reference == before[1]).all()


@settings(max_examples=100, deadline=None)
@given(scored_labels(), st.floats(0, 1), st.randoms(use_true_random=False))
def test_calibration_is_finite_and_keeps_the_order_whatever_the_scores(inputs: tuple, share: float, random):
    scores, soft = inputs[0], inputs[1] * share
    calibration = fit_calibration(scores, soft, "linear")
    assert (calibration.slopes > 0).all()
    calibrated = calibrate(scores, calibration)
    assert ((calibrated > 0) & (calibrated < 1)).all()
    order = np.argsort(scores, axis=0)
    assert (np.diff(np.take_along_axis(calibrated, order, axis=0), axis=0) >= 0).all()
    shuffled = random.sample(range(len(scores)), len(scores))
    np.testing.assert_allclose(
        calibration_error(scores[shuffled], soft[shuffled]), calibration_error(scores, soft), atol=1e-12
    )
    assert (brier(scores, soft) >= calibration_error(scores, soft) ** 2 - 1e-12).all()  # Jensen, bin by bin


@settings(max_examples=100, deadline=None)
@given(scored_labels())
def test_fuzzy_figures_are_the_crisp_ones_where_all_is_yes_or_no(inputs: tuple):
    said, there = inputs[0] > 0.3, inputs[1]
    fuzzy, crisp = f_soft(said, there), f1_at(said, there, 0.5)
    np.testing.assert_allclose(fuzzy["f_soft"], crisp["f1"], rtol=1e-14)
    np.testing.assert_allclose(fuzzy["precision_soft"], crisp["precision"], rtol=1e-14)
    np.testing.assert_allclose(fuzzy["recall_soft"], crisp["recall"], rtol=1e-14)
    np.testing.assert_allclose(brier(said, there), (said != there).mean(axis=0))


def test_validated_f1_sums_counts_over_folds_before_it_divides():
    rng = np.random.default_rng(0)
    folds = rng.integers(1, 4, 300)
    scores, reference = rng.random((300, 4)), rng.random((300, 4)) < 0.3
    thresholds = {k: rng.random(4) for k in (1, 2, 3)}
    thresholds[2][1] = np.inf
    table = validated_f1(scores, reference, folds, thresholds)
    for c in range(4):
        counts = np.zeros(3)
        for k, chosen in thresholds.items():
            said, there = scores[folds == k, c] > chosen[c], reference[folds == k, c]
            counts += (said & there).sum(), (said & ~there).sum(), (~said & there).sum()
        assert table.loc[c, ["tp", "fp", "fn"]].tolist() == counts.tolist()
        np.testing.assert_allclose(table.loc[c, "f1"], 2 * counts[0] / (2 * counts[0] + counts[1] + counts[2]))
    assert not decide_by_fold(scores, folds, thresholds)[folds == 2, 1].any()


def test_resamples_hold_as_many_recordings_of_each_fold_and_every_class():
    rng = np.random.default_rng(0)
    folds = np.repeat([1, 2, 3], [2, 5, 4])
    n_hard = rng.poisson(0.4, (11, 3))
    n_hard[0] = 1
    drawn = draw_recordings(folds, n_hard, 500, rng)
    assert drawn.shape == (500, 11)
    for fold in (1, 2, 3):
        assert (drawn[:, folds == fold].sum(axis=1) == (folds == fold).sum()).all()
    assert (drawn @ n_hard > 0).all()
    assert len(np.unique(drawn, axis=0)) > 300


def test_single_precision_counts_are_exact_for_the_largest_corpora():
    n = 300_000
    scores = np.linspace(0, 1, n)[:, None]
    reference = (np.arange(n) % 3 == 0)[:, None]
    counts = count_by_recording(scores, reference, np.zeros(n, dtype=int))
    figure = resampled_f1_mo(counts, np.array([[1]], dtype=np.float32))
    np.testing.assert_allclose(figure, f1_mo(scores, reference), rtol=1e-14)


@pytest.fixture(scope="module")
def corpus() -> maestro.Maestro:
    """The labels of MAESTRO Real."""
    return maestro.read()


def pooled(corpus: maestro.Maestro, scores: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All seconds one after another."""
    return np.concatenate([scores[name] for name in corpus.hard]), np.concatenate(list(corpus.hard.values()))


def test_real_labels_have_14176_positives(corpus: maestro.Maestro):
    counts = np.concatenate(list(corpus.hard.values())).sum(axis=0)
    assert counts.tolist() == [1472, 3513, 5703, 1444, 183, 141, 110, 689, 170, 452, 299]
    assert counts.sum() == 14176
    sums = np.concatenate(list(corpus.soft.values())).sum(axis=0)
    published = [1318.1, 2885.2, 5008.2, 2998.5, 792.6, 625.4, 477.2, 960.2, 715.8, 806.2, 737.5]
    np.testing.assert_allclose(sums, published, atol=0.06)


def test_chance_levels_of_the_real_labels(corpus: maestro.Maestro):
    constant = {name: np.zeros(hard.shape) for name, hard in corpus.hard.items()}
    assert round(100 * f1_mo(*pooled(corpus, constant)), 2) == 17.65
    assert round(100 * f1_mo(*pooled(corpus, maestro.scene_prior(corpus))), 2) == 38.23


def test_real_corpus_is_evaluated_whole(corpus: maestro.Maestro):
    rng, prior = np.random.default_rng(1), maestro.scene_prior(corpus)
    references = [
        ReferenceRecording(name, corpus.scene(name), fold, corpus.durations_s[name], corpus.soft[name], prior[name][0])
        for fold, names in corpus.test.items()
        for name in names
    ]
    systems = [
        {
            name: frame_scores(
                name, EVALUATED, np.repeat(share, 5, axis=0) + rng.normal(0, spread, (5 * len(share), 11)), 0.2
            )
            for name, share in prior.items()
        }
        for spread in (0.01, 0.3)
    ]
    thresholds = {fold: np.full(11, 0.2) for fold in corpus.test}
    near, far = (judge(tables, references, EVALUATED, thresholds) for tables in systems)
    metrics = evaluate(near, np.random.default_rng(0), 300)
    assert metrics["n_segments"] == 11369
    assert round(100 * metrics["chance"], 2) == 38.23
    first = [item for item in references if item.fold == 1]
    assert round(100 * chance(judge(systems[0], first, EVALUATED)), 2) == 36.22
    assert metrics["folds"] == [1, 2, 3, 4, 5]
    for name in ("f1_mo", "f1_validated"):
        low, high = metrics["ci"][name]
        assert low < high
        assert high - low < 0.2
    assert set(metrics["per_scene"]) == {corpus.scene(name) for name in corpus.hard}
    assert sum(scene["n_segments"] for scene in metrics["per_scene"].values()) == 11369
    assert sum(row["n_hard"] for row in metrics["per_class"].values()) == 14176
    gain = compare(near, far, np.random.default_rng(0), 300)["f1_mo"]
    assert gain["difference"] == pytest.approx(metrics["f1_mo"] - evaluate(far)["f1_mo"], abs=1e-15)
    assert gain["ci"][0] > 0
