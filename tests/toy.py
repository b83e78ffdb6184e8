"""A corpus small enough to train on in seconds."""

from pathlib import Path

import numpy as np
import pandas as pd

from sedsoft.audio import write_audio
from sedsoft.core import make_rng, with_settings
from sedsoft.corpus import Corpus, read_corpus
from sedsoft.runs import Config, find_config

SR = 16000


def write_toy(root: Path, n_recordings: int = 6, n_segments: int = 10) -> Corpus:
    """Recordings in which a buzz that all hear and a hiss that some hear begin somewhere."""
    rows = []
    for k in range(n_recordings):
        rng = make_rng(0, "toy", k)
        wav = 0.02 * rng.normal(size=n_segments * SR)
        buzz, hiss = sorted(rng.integers(0, n_segments - 3, size=2))
        time_s = np.arange(3 * SR) / SR
        wav[buzz * SR : (buzz + 3) * SR] += 0.2 * np.sign(np.sin(2 * np.pi * 120 * time_s))
        wav[hiss * SR : (hiss + 3) * SR] += 0.1 * rng.normal(size=3 * SR)
        scene = "street" if k % 2 else "park"
        rows.append((f"{scene}_{k}.wav", buzz, buzz + 3, "buzz", 1.0, scene))
        rows.append((f"{scene}_{k}.wav", hiss, hiss + 3, "hiss", 0.6, scene))
        write_audio(root / "audio" / f"{scene}_{k}.wav", wav.astype("float32"), SR)
    columns = ["filename", "onset", "offset", "label", "value", "scene"]
    pd.DataFrame(rows, columns=columns).to_csv(root / "labels.csv", index=False)
    return read_corpus(root)


def toy_config(*settings: str) -> Config:
    """The demo's configuration, made so small that an epoch takes a fraction of a second."""
    small = ("model.backbone.n_filters=4", "training.epochs=3", "training.batch_size=2", "training.threads=1")
    return with_settings(find_config("demo"), (*small, *settings))
