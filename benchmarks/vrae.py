"""The VRAE: a training step, generation of 1,000 steps, and reading MIDI files.

The training step of `vrae-20d` (batch 100, 40 steps of 49 pitches, 500 units) is compared with PyTorch's own recurrent
networks alone: one reads the windows, one of the same size is fed the windows again, a linear layer gives the logits;
loss, backward and Adam. Ours must step through its decoder, because it reads its own outputs.

Generation starts from one latent and from 64 at once, on one thread; the limit is its matrix products. Reading turns
all MIDI files of a folder into piano rolls, compared with symusic's parsing of them alone.

    python -m benchmarks.vrae [--data FOLDER] [--threads 2] [--repeats 7]
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.timing import head, medians
from narrows.bottlenecks import Gaussian
from narrows.data import Batch, Spec
from narrows.estimators import Pathwise
from narrows.likelihoods import Bernoulli
from narrows.modalities.music.dataset import EXTENSIONS
from narrows.modalities.music.midi import Clock, read_notes
from narrows.modalities.music.roll import RollLayout
from narrows.models import Autoencoder
from narrows.networks import RecurrentDecoder, RecurrentEncoder

BATCH, WINDOW, PITCHES, HIDDEN, LATENTS, STEPS = 100, 40, 49, 500, 20, 1000
NETWORKS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}

Action = Callable[[], object]


class Plain(nn.Module):
    """An encoder and a decoder by PyTorch's recurrent networks; the decoder is fed the data."""

    def __init__(self, cell: str) -> None:
        super().__init__()
        self.encoder = NETWORKS[cell](PITCHES, HIDDEN, batch_first=True)
        self.decoder = NETWORKS[cell](PITCHES, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, PITCHES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the loss of rolls [B, T, P]."""
        _, state = self.encoder(x)
        states, _ = self.decoder(x, state)
        return nn.functional.binary_cross_entropy_with_logits(self.out(states), x)


def ours(cell: str) -> Autoencoder:
    """Return the model of `vrae-20d`."""
    return Autoencoder(
        Spec((PITCHES, WINDOW), variable=True),
        partial(RecurrentEncoder, window=WINDOW, hidden=HIDDEN, cell=cell),
        Gaussian(LATENTS),
        partial(RecurrentDecoder, hidden=HIDDEN, cell=cell),
        Bernoulli,
    )


def step(model: nn.Module, objective: Callable[[], Tensor]) -> Action:
    """Return a training step of `objective`, as a function."""
    optimizer = torch.optim.Adam(model.parameters(), 2e-5)

    def run() -> None:
        optimizer.zero_grad()
        objective().backward()
        optimizer.step()

    return run


def loss(model: Autoencoder, estimator: Pathwise, x: Tensor) -> Tensor:
    """Return the loss of rolls [B, P, T] in nats per value."""
    _, evidence = model.evidence(Batch(x), estimator.draw)
    return estimator(evidence).mean() / model.dimensions


def compare_steps(settings: Namespace) -> None:
    """Print the times of a training step by cell."""
    torch.set_num_threads(settings.threads)
    head(settings, ["cell", "ours ms", "torch.nn ms", "ours / torch.nn"], f"One step, batch {BATCH}, {WINDOW} steps")
    x = torch.randint(2, (BATCH, PITCHES, WINDOW)).float()
    rows = x.transpose(1, 2).contiguous()
    for cell in NETWORKS:
        model, plain = ours(cell), Plain(cell)
        actions = [step(model, partial(loss, model, Pathwise(), x)), step(plain, partial(plain, rows))]
        mine, theirs = (1e3 * median for median in medians(actions, "cpu", settings.repeats))
        print(f"| {cell} | {mine:.0f} | {theirs:.0f} | {mine / theirs:.2f} |", flush=True)
    print()


@torch.inference_mode()
def compare_generation(settings: Namespace) -> None:
    """Print the times of generating from one latent and from many."""
    torch.set_num_threads(1)
    head(
        Namespace(**{**vars(settings), "threads": 1}),
        ["cell", "latents", "ours s", "steps/s of all", "times those of one", "matrix products s", "ours / products"],
        f"{STEPS} steps",
    )
    for cell in NETWORKS:
        decoder, alone = RecurrentDecoder(LATENTS, PITCHES, HIDDEN, cell, WINDOW).eval(), 0.0
        for count in (1, 64):
            start = partial(decoder.begin, torch.randn(count, LATENTS))
            actions = [partial(generate, decoder, start), products(decoder, count)]
            mine, limit = medians(actions, "cpu", settings.repeats)
            rate = count * STEPS / mine
            alone = alone or rate
            row = [cell, count, f"{mine:.3f}", f"{rate:.0f}", f"{rate / alone:.1f}", f"{limit:.3f}"]
            print(f"| {' | '.join(map(str, row))} | {mine / limit:.2f} |", flush=True)
    print()


def generate(decoder: RecurrentDecoder, start: Callable[[], Any]) -> Tensor:
    """Return the outputs of `STEPS` steps."""
    return decoder.run(start(), STEPS)[0]


def products(decoder: RecurrentDecoder, count: int) -> Action:
    """Return the matrix products of `STEPS` steps of `count` sequences, as a function."""
    weights = [decoder.cell.weight_ih.t(), decoder.cell.weight_hh.t(), decoder.out.weight.t()]
    given = [torch.randn(count, weight.shape[0]) for weight in weights]

    def run() -> None:
        for _ in range(STEPS):
            for x, weight in zip(given, weights, strict=True):
                x @ weight

    return run


def compare_reading(settings: Namespace) -> None:
    """Print the times of reading the MIDI files of a folder."""
    from symusic import Score

    files = [file for file in sorted(settings.data.rglob("*")) if file.suffix.lower() in EXTENSIONS]
    if not files:
        raise SystemExit(f"--data {settings.data}: there are no MIDI files")
    contents, layout = [file.read_bytes() for file in files], RollLayout(21, 108)

    def read() -> None:
        for content in contents:
            layout.to_roll(read_notes(content, Clock(20.0)).notes)

    def parse() -> None:
        for content in contents:
            Score.from_midi(content, sanitize_data=True)

    mine, theirs = medians([read, parse], "cpu", settings.repeats)
    head(settings, ["files", "rolls s", "symusic s", "rolls / symusic"])
    print(f"| {len(files)} | {mine:.3f} | {theirs:.3f} | {mine / theirs:.2f} |")


def main() -> None:
    """Measure and print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of MIDI files")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds")
    settings = parser.parse_args()
    settings.device = "cpu"
    torch.manual_seed(0)
    compare_steps(settings)
    compare_generation(settings)
    if settings.data is not None:
        compare_reading(settings)


if __name__ == "__main__":
    main()
