"""What an encoder costs: seconds of one core for each second of sound, as rows for bench.md.

    python bench/encoders.py [--rounds 5]

The networks have the shape of the base models and random weights, which cost the same as pretrained ones and need
no download. Times are the processor's, so that neighbours on the machine count little; medians are printed.
"""

import argparse
import os
import resource
import statistics

os.environ.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import torch

from sedsoft.encoders import BATCH, WaveEncoder
from sedsoft.features import _import_torchaudio


def processor_s() -> float:
    """Seconds of processor time that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Time the three base models."""
    parser = argparse.ArgumentParser(description="Time encoders of the base models' shape.")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each, the median counts")
    args = parser.parse_args()
    _import_torchaudio()
    from transformers import AutoConfig, AutoModel

    torch.set_num_threads(1)
    print("| encoder | parameters | s of one core for a second of sound |\n|---|---|---|")
    for kind in ("wav2vec2", "hubert", "wavlm"):
        encoder = WaveEncoder(AutoModel.from_config(AutoConfig.for_model(kind)), is_normalised=True).eval()
        waveforms, times_s = torch.randn(BATCH, 16000), []
        with torch.inference_mode():
            encoder(waveforms[:1])  # the first call also sets things up
            for _ in range(args.rounds):
                begin_s = processor_s()
                encoder(waveforms)
                times_s.append((processor_s() - begin_s) / BATCH)
        n = sum(parameter.numel() for parameter in encoder.parameters())
        print(f"| {kind}-base | {n / 1e6:.1f} M | {statistics.median(times_s):.2f} |")


if __name__ == "__main__":
    main()
