"""Encoders for tests: a function, as a configuration may name it, and small networks in the hub's layout."""

from pathlib import Path

import numpy as np
import torch

from sedsoft import encoders
from sedsoft.features import _import_torchaudio

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "conv_dim": (8,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "layerdrop": 0.0,
}


def loudness(waveforms: np.ndarray, sr: int) -> np.ndarray:
    """Level of each tenth of a second, (S, 10) float32."""
    tenths = waveforms.reshape(len(waveforms), 10, sr // 10)
    return np.sqrt((tenths**2).mean(axis=2)).astype(np.float32)


def save_small(folder: Path, kind: str = "wav2vec2", seed: int = 0, for_pretraining: bool = False) -> Path:
    """Save a small network with random weights in the hub's layout."""
    _import_torchaudio()
    from transformers import AutoConfig, AutoModel, AutoModelForPreTraining, Wav2Vec2FeatureExtractor

    make = AutoModelForPreTraining if for_pretraining else AutoModel
    with encoders._quiet(), torch.random.fork_rng():
        torch.manual_seed(seed)
        make.from_config(AutoConfig.for_model(kind, **SMALL)).save_pretrained(folder)
        Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder
