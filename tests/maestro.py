"""The labels of MAESTRO Real as plain arrays, from the shared folder."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from shared import shared

from sedsoft.labels import EVALUATED, is_hard

FOLDS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Maestro:
    """49 recordings: labels of the 11 evaluated classes, durations, official folds."""

    soft: dict[str, np.ndarray]  # name -> (S, 11) soft labels
    hard: dict[str, np.ndarray]  # name -> (S, 11) bool
    durations_s: dict[str, float]  # name -> seconds
    train: dict[int, list[str]]  # fold -> names
    test: dict[int, list[str]]  # fold -> names

    def scene(self, name: str) -> str:
        """The scene of a recording."""
        return name.rsplit("_", 1)[0]


def read() -> Maestro:
    """Read the shared tables."""
    table = pd.read_csv(shared("maestro-real", "soft_labels.tsv"), sep="\t")
    assert tuple(table.columns[3:]) == EVALUATED
    soft = {name: rows[list(EVALUATED)].to_numpy() for name, rows in table.groupby("filename", sort=False)}
    durations = pd.read_csv(shared("maestro-real", "durations.tsv"), sep="\t").set_index("filename")["duration"]
    return Maestro(
        soft,
        {name: is_hard(values) for name, values in soft.items()},
        {name: float(durations[name]) for name in soft},
        {fold: _names(fold, "train") for fold in FOLDS},
        {fold: _names(fold, "test") for fold in FOLDS},
    )


def _names(fold: int, split: str) -> list[str]:
    """The recordings of a split of an official fold."""
    rows = pd.read_csv(shared("maestro-real", "development_folds", f"fold{fold}_{split}.csv"))["filename"]
    return [row.split("/")[-1] for row in rows]


def scene_prior(corpus: Maestro) -> dict[str, np.ndarray]:  # name -> (S, 11), every second alike
    """Score each recording by the share of hard positives in its scene's training recordings."""
    scores = {}
    for fold, names in corpus.test.items():
        for name in names:
            alike = [other for other in corpus.train[fold] if corpus.scene(other) == corpus.scene(name)]
            share = np.concatenate([corpus.hard[other] for other in alike]).mean(axis=0)
            scores[name] = np.tile(share, (len(corpus.hard[name]), 1))
    return {name: scores[name] for name in corpus.hard}
