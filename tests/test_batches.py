"""The balanced sampler on the real labels: what the chapter says of them, and what is really drawn."""

from collections.abc import Iterator

import maestro
import numpy as np
import pytest

from sedsoft.batches import (
    Cuts,
    balanced_weights,
    batches,
    cut_chunks,
    cut_windows,
    make_split,
    middle,
    segment_classes,
    sequence_weights,
)
from sedsoft.core import make_rng

REAL = np.array(
    [
        [833, 1295, 2860, 369, 16, 0, 6, 65, 65, 246, 160],
        [645, 1384, 2961, 446, 84, 30, 0, 61, 0, 278, 201],
        [922, 1365, 2903, 381, 77, 30, 6, 74, 65, 249, 147],
        [314, 1477, 3367, 441, 20, 30, 6, 234, 35, 303, 194],
        [467, 1490, 3356, 481, 90, 30, 6, 196, 31, 297, 218],
    ]
)  # as in 07_batches
HEARD = [11.9, 23.6, 38.5, 8.0, 1.2, 0.0, 0.8, 2.7, 2.2, 6.7, 4.5]  # likewise


@pytest.fixture(scope="module")
def real() -> maestro.Maestro:
    return maestro.read()


def training_labels(real: maestro.Maestro, fold: int) -> list[np.ndarray]:
    return [real.soft[name] for name in real.train[fold]]


@pytest.mark.parametrize("fold", maestro.FOLDS)
def test_the_chapter_counts_as_the_real_labels_do(real: maestro.Maestro, fold: int):
    classes = segment_classes(np.concatenate(training_labels(real, fold)))
    assert np.bincount(classes, minlength=12).tolist() == [*REAL[fold - 1], 0]


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.5, 1.0])
def test_single_seconds_are_drawn_as_asked(real: maestro.Maestro, alpha: float):
    soft = training_labels(real, 1)
    split = make_split([np.zeros((len(labels), 1), np.float32) for labels in soft], soft, 1)
    classes = segment_classes(split.targets.numpy())
    cuts = cut_chunks(split.lengths, 1)
    chances = sequence_weights(cuts, balanced_weights(classes, alpha))
    counts = sum(
        np.bincount(segment_classes(batch.targets[:, 0].numpy()), minlength=11)
        for epoch in range(8)
        for batch in batches(split, cuts, 1000, make_rng(0, epoch), chances)
    )
    n_there = (REAL[0] > 0).sum()
    wanted = np.where(REAL[0] > 0, alpha / n_there, 0) + (1 - alpha) * REAL[0] / REAL[0].sum()
    deviation = np.sqrt(wanted * (1 - wanted) / counts.sum())
    assert counts.sum() == 8 * len(classes)
    assert (np.abs(counts / counts.sum() - wanted) <= 4.5 * deviation).all()


def cut_epochs(lengths: list[int], n_epochs: int) -> Iterator[Cuts]:
    """Chunks of 41 s at new places each epoch."""
    return (cut_chunks(lengths, 41, rng=make_rng(0, epoch)) for epoch in range(n_epochs))


def count_classes(classes: np.ndarray, cuts: Cuts) -> np.ndarray:
    """How many real seconds of each class a sequence holds: (B, 11)."""
    return (np.eye(11)[classes][cuts.segments] * cuts.inside[..., None]).sum(axis=1)


def test_the_chapter_says_what_is_heard_in_sequences_of_41_s(real: maestro.Maestro):
    soft = training_labels(real, 1)
    classes = segment_classes(np.concatenate(soft))
    heard = np.zeros(11)
    for cuts in cut_epochs([len(labels) for labels in soft], 200):
        seconds = sequence_weights(cuts, balanced_weights(classes, 0.5)) @ count_classes(classes, cuts)
        heard += seconds / seconds.sum() / 200
    np.testing.assert_allclose(100 * heard, HEARD, atol=0.051)  # rounded there


@pytest.mark.parametrize("fold", [1, 3, 4, 5])
def test_brakes_come_back_eight_times_an_epoch_on_average_and_cars_with_them(real: maestro.Maestro, fold: int):
    soft = training_labels(real, fold)
    classes, brakes, car = segment_classes(np.concatenate(soft)), 6, 1
    times, beside = [], np.zeros(11)
    for cuts in cut_epochs([len(labels) for labels in soft], 200):
        weights, counts = sequence_weights(cuts, balanced_weights(classes, 0.5)), count_classes(classes, cuts)
        braking = counts[:, brakes] > 0
        times.append(len(cuts) * weights @ counts[:, brakes] / REAL[fold - 1, brakes])
        beside += weights[braking] @ counts[braking]
    assert 7.5 < np.mean(times) < 8.5
    assert 0.75 < beside[car] / beside.sum() < 0.8


@pytest.mark.parametrize("fold", maestro.FOLDS)
def test_sequences_of_41_s_are_drawn_as_expected(real: maestro.Maestro, fold: int):
    soft = training_labels(real, fold)
    split = make_split([np.zeros((len(labels), 1), np.float32) for labels in soft], soft, 1)
    classes = segment_classes(split.targets.numpy())
    heard, expected, variance = np.zeros(11), np.zeros(11), np.zeros(11)
    for epoch, cuts in enumerate(cut_epochs(split.lengths, 30)):
        weights, counts = sequence_weights(cuts, balanced_weights(classes, 0.5)), count_classes(classes, cuts)
        for batch in batches(split, cuts, 4, make_rng(1, epoch), weights):
            heard += np.bincount(segment_classes(batch.targets[batch.valid].numpy()), minlength=11)
        mean = weights @ counts
        expected += len(cuts) * mean
        variance += len(cuts) * (weights @ counts**2 - mean**2)
    assert (expected[REAL[fold - 1] > 0] > 0).all()
    assert (np.abs(heard - expected) <= 4.5 * np.sqrt(variance)).all()


def test_drawing_a_second_and_taking_its_sequence_is_drawing_by_sequence_weights():
    rng = np.random.default_rng(0)
    chances = rng.dirichlet(np.ones(60))
    for cuts in (cut_chunks([37, 23], 7, rng=rng), cut_chunks([37, 23], 7, join=True), cut_windows([37, 23], 5)):
        asked, real = middle(cuts.segments, cuts.n_targets), middle(cuts.inside, cuts.n_targets)
        holder = np.zeros(60, dtype=int)
        holder[asked[real]] = np.nonzero(real)[0]
        drawn = np.bincount(holder[rng.choice(60, 50000, p=chances)], minlength=len(cuts)) / 50000
        wanted = sequence_weights(cuts, chances)
        assert (np.abs(drawn - wanted) <= 4.5 * np.sqrt(wanted * (1 - wanted) / 50000)).all()
