"""The balanced sampler on the real labels: what the chapter says of them, and what is really drawn."""

import maestro
import numpy as np
import pytest

from sedsoft.batches import balanced_weights, batches, cut_chunks, make_split, segment_classes, sequence_weights
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


def test_in_sequences_of_41_s_a_second_comes_back_nine_times_at_most(real: maestro.Maestro):
    most = []
    for fold in maestro.FOLDS:
        soft = training_labels(real, fold)
        cuts = cut_chunks([len(labels) for labels in soft], 41)
        chances = sequence_weights(cuts, balanced_weights(segment_classes(np.concatenate(soft)), 0.5))
        most.append(len(cuts) * chances.max())
    assert 8 < max(most) < 9
