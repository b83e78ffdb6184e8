"""Training as a whole: the same bits with two threads and across processes, and the losses of a plain restatement."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sedsoft.batches import Split, make_split, take
from sedsoft.crnn import CRNNSpec
from sedsoft.losses import LossSpec, make_loss
from sedsoft.models import ModelSpec, Network, Shapes, build_model
from sedsoft.training import TrainingSpec, cut_split, fit, make_stream, state_from_file, state_to_file

SPEC = CRNNSpec(n_filters=16, n_gru=8, n_linear=8)
TRAINING = TrainingSpec(epochs=2, batch_size=2, sequence_s=8.0, device="cpu")
LOSS = make_loss(LossSpec("mse"), "linear")


def make_noise(n: int, value: float | None = None) -> Split:
    """A recording of n sequences of noise, the last not full, with noise for labels, or one value."""
    rng, n_segments = np.random.default_rng(n), 8 * n - 3
    features = rng.normal(size=(5 * n_segments, 64)).astype(np.float32)
    targets = rng.random((n_segments, 3)) if value is None else np.full((n_segments, 3), value)
    return make_split([features], [targets], 5)


def make_model(spec: CRNNSpec = SPEC) -> Network:
    """The same first weights every time."""
    return build_model(ModelSpec(backbone=spec), Shapes(n_mels=64, n_classes=3, frames_per_segment=5), seed=0)


def train(state_path: Path, epochs: int) -> None:
    """Train to so many epochs, from a state if there is one, and leave the state; run in a process of its own."""
    torch.set_num_threads(2)
    state = state_from_file(state_path) if state_path.is_file() else None
    spec = replace(TRAINING, epochs=epochs, batch_size=4, lr_patience=1)
    streams = [make_stream(make_noise(n), spec) for n in (10, 5)]
    for epoch in fit(make_model(), *streams, LOSS, spec, (3, 2), state):
        state_to_file(state_path, epoch.state)


def run_apart(state_path: Path, epochs: int) -> str:
    """`train` in a new process; the digest of the file that it leaves."""
    code = f"import sys; from test_training import train, Path; train(Path(sys.argv[1]), {epochs})"
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "passive",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    subprocess.run([sys.executable, "-c", code, state_path], check=True, env=environment)
    return hashlib.blake2b(state_path.read_bytes()).hexdigest()


def test_two_threads_give_the_same_bits_whether_interrupted_or_not(tmp_path: Path):
    whole = run_apart(tmp_path / "whole.safetensors", 4)
    assert run_apart(tmp_path / "again.safetensors", 4) == whole
    run_apart(tmp_path / "halves.safetensors", 2)
    assert run_apart(tmp_path / "halves.safetensors", 4) == whole


def test_twenty_steps_lose_as_much_as_a_plain_restatement():
    model = make_model(CRNNSpec(16, (5, 2, 2), 0.0, 8, 8))
    layers, n_in = [], 1
    for pool in (5, 2, 2):
        layers += [nn.Conv2d(n_in, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d((1, pool))]
        n_in = 16
    convolutions, gru = nn.Sequential(*layers), nn.GRU(48, 8, batch_first=True, bidirectional=True)
    plain = nn.ModuleList([convolutions, gru, nn.Linear(16, 8), nn.Linear(8, 3)])
    for theirs, ours in zip(plain.parameters(), model.parameters(), strict=True):
        theirs.data.copy_(ours.data)
    ours_adam, plain_adam = (torch.optim.Adam(network.parameters(), lr=1e-3) for network in (model, plain))
    noise = make_noise(16)
    cuts, losses = cut_split(noise.lengths, TRAINING), []
    for step in range(20):
        batch = take(noise, cuts, np.random.default_rng(step).permutation(16)[:8])
        ours = LOSS(model(batch), batch)
        heard = convolutions(batch.features[:, None]).permute(0, 2, 1, 3).flatten(2)
        scores = plain[3](plain[2](gru(heard)[0])).unflatten(1, (8, 5))
        theirs = (scores - batch.targets[:, :, None])[batch.valid].square().mean()
        for loss, adam in ((ours, ours_adam), (theirs, plain_adam)):
            adam.zero_grad()
            loss.backward()
            adam.step()
        losses.append((ours.item(), theirs.item()))
    ours, theirs = np.array(losses).T
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)  # float32, and errors grow from step to step
    assert ours[-1] < ours[0]


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_labels_that_are_all_alike_are_learnt(value: float):
    train = make_stream(make_noise(4, value), TRAINING)
    records = [epoch.record for epoch in fit(make_model(), train, train, LOSS, TRAINING)]
    assert records[1].train_loss < records[0].train_loss


def test_a_state_of_another_model_is_refused():
    train = make_stream(make_noise(2), TRAINING)
    (first, _) = fit(make_model(), train, train, LOSS, TRAINING)
    other = make_model(CRNNSpec(n_filters=8, n_gru=8, n_linear=8))
    with pytest.raises(ValueError, match="state is another model's"):
        next(fit(other, train, train, LOSS, TRAINING, state=first.state))
