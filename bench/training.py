"""An epoch of training: ours, its bare steps, and a plain restatement of the baseline's loop, as rows for bench.md.

    python bench/training.py [--rounds 5] [--threads 2] [--steps 6] [--skip_forms] [--cpu_time]

The baseline's CRNN (380,113 parameters), float32, batches of 32 sequences of 200 frames, 64 bands, random numbers for
features and labels. The three sides take turns, an epoch of --steps batches each, and medians are printed; validation
is not timed. Then: what each change of form brings to a step; the losses of 20 steps without dropout, ours against
plain; the largest resident memory of a process that trains on 190 minutes. On a busy machine, --threads 1 --cpu_time
counts the processor's time instead of the clock's.
"""

import argparse
import dataclasses
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sedsoft.batches import Sequences, Split, make_split, take
from sedsoft.block import Block, draw_kept, normalise_and_pool
from sedsoft.crnn import CRNNSpec
from sedsoft.losses import LossSpec, make_loss
from sedsoft.models import ModelSpec, Network, Shapes, build_model
from sedsoft.training import TrainingSpec, cut_split, fit, make_stream

BATCH, N_FRAMES, N_MELS, N_CLASSES, RATE = 32, 200, 64, 17, 5
SPEC = TrainingSpec(epochs=1, batch_size=BATCH, device="cpu")
LOSS = make_loss(LossSpec("mse"), "linear")


class PlainCRNN(nn.Module):
    """The baseline's network as one would write it down, contiguous."""

    def __init__(self, dropout: float = 0.2):
        super().__init__()
        layers, n_in = [], 1
        for pool in (5, 2, 2):
            layers += [nn.Conv2d(n_in, 128, 3, padding=1), nn.BatchNorm2d(128), nn.ReLU()]
            layers += [nn.MaxPool2d((1, pool)), nn.Dropout(dropout)]
            n_in = 128
        self.convolutions = nn.Sequential(*layers)
        self.gru = nn.GRU(384, 32, batch_first=True, bidirectional=True)
        self.linear, self.head = nn.Linear(64, 32), nn.Linear(32, N_CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolutions(x.unsqueeze(1)).permute(0, 2, 1, 3).flatten(2)
        return self.head(self.linear(self.gru(x)[0]))

    def take_weights(self, model: nn.Module) -> "PlainCRNN":
        """Begin with another model's weights; parameters come in the same order."""
        for mine, theirs in zip(self.parameters(), model.parameters(), strict=True):
            mine.data.copy_(theirs.data)
        return self


class PlainDataset(torch.utils.data.Dataset):
    """Arrays in memory, an item at a time, as the baseline's loader has them."""

    def __init__(self, features: np.ndarray, targets: np.ndarray):
        self.features, self.targets = features, targets

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        return self.features[k], self.targets[k]


def make_noise(n: int) -> Split:
    """A recording of n sequences of noise to train on."""
    rng, n_segments = np.random.default_rng(0), n * N_FRAMES // RATE
    features = rng.normal(size=(n * N_FRAMES, N_MELS)).astype(np.float32)
    return make_split([features], [rng.random((n_segments, N_CLASSES))], RATE)


def all_batches(split: Split, size: int = BATCH) -> list[Sequences]:
    """Its batches, in order."""
    cuts = cut_split(split.lengths, SPEC)
    return [take(split, cuts, np.arange(k, min(k + size, len(cuts)))) for k in range(0, len(cuts), size)]


def make_model(dropout: float = 0.2) -> Network:
    """Ours, from one seed."""
    spec = ModelSpec(activation="linear", backbone=CRNNSpec(dropout=dropout))
    return build_model(spec, Shapes(N_MELS, N_CLASSES, RATE), seed=0)


def plain_pair(batch: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
    """Features, and a label for every frame, as the plain loop wants them."""
    return batch.features, batch.targets.repeat_interleave(RATE, dim=1)


def plain_epoch(model: nn.Module, optimiser: torch.optim.Optimizer, loader: Iterator) -> list[float]:
    """One pass in the plain way; the losses."""
    criterion, losses = nn.MSELoss(), []
    model.train()
    for features, targets in loader:
        optimiser.zero_grad()
        loss = criterion(model(features), targets)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def epoch_sides(n_steps: int) -> dict[str, Callable[[], object]]:
    """What is timed: an epoch of `fit`, bare steps of the same model, an epoch of the plain loop."""
    noise = make_noise(n_steps * BATCH)
    train, val, in_memory = make_stream(noise, SPEC), make_stream(make_noise(1), SPEC), all_batches(noise)
    bare, plain = make_model(), PlainCRNN()
    bare_adam, plain_adam = (torch.optim.Adam(model.parameters(), lr=1e-3) for model in (bare, plain))
    dataset = PlainDataset(*(torch.cat(part).numpy() for part in zip(*map(plain_pair, in_memory), strict=True)))
    loader = torch.utils.data.DataLoader(dataset, batch_size=BATCH, shuffle=True)

    def bare_steps() -> None:
        bare.train()
        for batch in in_memory:
            bare_adam.zero_grad()
            LOSS(bare(batch), batch).backward()
            bare_adam.step()

    return {
        "plain": lambda: plain_epoch(plain, plain_adam, loader),
        "ours, bare steps": bare_steps,
        "ours, fit": lambda: next(fit(make_model(), train, val, LOSS, SPEC)),
    }


class Form(nn.Module):
    """The network, channels last, in a form between plain and ours, told by what it has."""

    def __init__(self, *has: str):
        super().__init__()
        self.model, self.has = make_model().to(memory_format=torch.channels_last), has

    def block(self, block: Block, x: torch.Tensor) -> torch.Tensor:
        """One block of this form."""
        conv, norm, share = block.conv, block.norm, block.dropout
        x = x.contiguous(memory_format=torch.channels_last)
        if "one function" in self.has:
            z = F.conv2d(x, conv.weight, None, padding=1)
            return normalise_and_pool(z, norm.weight, norm.bias, block.pool, norm.eps, share)[0]
        x = F.max_pool2d(F.relu(norm(conv(x))), (1, block.pool))
        return x * (draw_kept(x, share) / (1 - share)) if "raw bits" in self.has else F.dropout(x, share, self.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(1)
        backbone = self.model.backbone
        for block in backbone.blocks:
            x = block(x) if "first layer" in self.has and block.conv.in_channels == 1 else self.block(block, x)
        x, _ = backbone.gru(x.transpose(1, 2).flatten(2))
        return self.model.head(backbone.embedding(x))


class Convolutions(nn.Module):
    """The second and third convolution alone, channels last: what no form here can do without."""

    def __init__(self):
        super().__init__()
        self.second, self.third = nn.Conv2d(128, 128, 3, padding=1), nn.Conv2d(128, 128, 3, padding=1)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None, :, :12].expand(-1, 128, -1, -1).contiguous(memory_format=torch.channels_last)
        x = self.second(x.requires_grad_())[..., :6].contiguous(memory_format=torch.channels_last)
        return self.third(x).mean((1, 3), keepdim=True).squeeze(1).expand(-1, -1, N_CLASSES)


def form_sides() -> dict[str, Callable[[], object]]:
    """One step of each form."""
    forms = {
        "plain": PlainCRNN(),
        "channels last": Form(),
        "+ dropout from raw bits": Form("raw bits"),
        "+ one function from norm to dropout": Form("one function"),
        "+ first layer never held (ours)": Form("one function", "first layer"),
        "second and third convolution alone": Convolutions(),
    }
    (batch,) = all_batches(make_noise(BATCH))
    features, targets = plain_pair(batch)

    def stepper(model: nn.Module) -> Callable[[], None]:
        optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

        def step() -> None:
            model.train()
            optimiser.zero_grad()
            (model(features) - targets).square().mean().backward()
            optimiser.step()

        return step

    return {name: stepper(model) for name, model in forms.items()}


def take_turns(sides: dict[str, Callable], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each round of each side, in turns, after a round that does not count."""
    seconds = {name: [] for name in sides}
    for round_number in range(rounds + 1):
        for name, work in sides.items():
            begin = clock()
            work()
            if round_number:
                seconds[name].append(clock() - begin)
    return seconds


def print_ratios(title: str, seconds: dict[str, list[float]], unit: str) -> None:
    """Medians, and the median of the rounds' ratios to the first side."""
    print(f"\n| {title} | {unit} | of plain | of the bare steps |\n|---|---|---|---|")
    for name, times in seconds.items():
        ratios = []
        for peer in ("plain", "ours, bare steps"):
            pairs = zip(times, seconds.get(peer, []), strict=True) if peer in seconds else []
            ratio = [mine / theirs for mine, theirs in pairs]
            ratios.append(f"{statistics.median(ratio):.2f}" if ratio else "")
        print(f"| {name} | {statistics.median(times):.2f} | {' | '.join(ratios)} |")


def print_agreement(n_steps: int = 20) -> None:
    """Losses without dropout, the same batches: ours against plain."""
    train = all_batches(make_noise(4 * BATCH))
    model = make_model(dropout=0.0)
    plain = PlainCRNN(dropout=0.0).take_weights(model)
    ours_adam, plain_adam = (torch.optim.Adam(network.parameters(), lr=1e-3) for network in (model, plain))
    differences = []
    for step in range(n_steps):
        batch = train[step % 4]
        (theirs,) = plain_epoch(plain, plain_adam, [plain_pair(batch)])
        ours_adam.zero_grad()
        loss = LOSS(model.train()(batch), batch)
        loss.backward()
        ours_adam.step()
        differences.append(abs(loss.item() - theirs) / theirs)
    print(
        f"\nlosses of {n_steps} steps without dropout, ours against plain: within {max(differences):.1e} of each other"
    )


def peak_mb() -> float:
    """Largest resident memory of this process since it began; getrusage would count its parent's as well."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def print_memory(side: str, threads: int) -> None:
    """Train a little on 190 minutes (114 to learn from, 38 to choose by), and print this process's largest memory."""
    torch.set_num_threads(threads)
    train, val = make_noise(171), make_noise(57)
    before = peak_mb()
    if side == "ours":
        streams = make_stream(train, SPEC), make_stream(val, SPEC)
        list(fit(make_model(), *streams, LOSS, dataclasses.replace(SPEC, epochs=2)))
    else:
        plain = PlainCRNN()
        loader = torch.utils.data.DataLoader(
            PlainDataset(*(part.numpy() for part in plain_pair(take(train, cut_split(train.lengths, SPEC))))),
            batch_size=BATCH,
            shuffle=True,
        )
        plain_epoch(plain, torch.optim.Adam(plain.parameters(), lr=1e-3), loader)
    print(f"largest memory of a process that trains ({side}): {peak_mb():.0f} MB, of which {before:.0f} before")


def main() -> None:
    """Measure, and print rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6, help="batches in an epoch")
    parser.add_argument("--skip_forms", action="store_true", help="leave out what each change of form brings")
    parser.add_argument("--cpu_time", action="store_true", help="count the processor's time, for one thread")
    parser.add_argument("--memory", choices=["ours", "plain"], help="only print the memory of this side")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    clock = time.process_time if args.cpu_time else time.perf_counter
    if args.memory:
        print_memory(args.memory, args.threads)
        return
    size = f"batch {BATCH} x {N_FRAMES} frames x {N_MELS} bands"
    print(f"torch {torch.__version__}, {args.threads} threads, {size}, float32")
    print_ratios(f"an epoch of {args.steps} steps", take_turns(epoch_sides(args.steps), args.rounds, clock), "s")
    if not args.skip_forms:
        print_ratios("a step", take_turns(form_sides(), args.rounds, clock), "s")
    print_agreement()
    for side in ("ours", "plain"):
        command = [sys.executable, __file__, "--memory", side, "--threads", str(args.threads)]
        print(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


if __name__ == "__main__":
    main()
