"""Two processes that each hold a part of every batch learn the codebook that one process learns from the whole batches.

Run as a script, this file is one of the two processes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from narrows.bottlenecks.codebook import EMACodebook, KMeansStart, LearntCodebook, RestartUnused
from narrows.bottlenecks.vector import VectorQuantizer

STEPS = 8
# Examples of the first process in each batch of 12: unequal shares, all, and none.
SHARES = (6, 5, 12, 0, 1, 9, 6, 6)
LEARNING = {"ema": EMACodebook, "learnt": LearntCodebook}


def build(name: str) -> VectorQuantizer:
    torch.manual_seed(0)
    return VectorQuantizer(
        dim=3, codebook_size=50, codebooks=2, codebook=LEARNING[name], care=[KMeansStart(2), RestartUnused(after=2)]
    )


def batch_of(step: int) -> Tensor:
    return torch.randn(12, 6, 4, generator=torch.Generator().manual_seed(step)) + 0.3 * step


def share_of(name: str, step: int, rank: int) -> Tensor:
    # Data-parallel training averages the processes' gradients, which is the global mean where the shares are equal.
    split = 6 if name == "learnt" else SHARES[step]
    return batch_of(step)[:split] if rank == 0 else batch_of(step)[split:]


def train(name: str, rank: int | None) -> dict[str, Tensor]:
    """Train on the whole batches (rank None) or on one process's share of them."""
    quantizer = build(name)
    for step in range(STEPS):
        _, _, loss = quantizer(batch_of(step) if rank is None else share_of(name, step, rank))
        if loss.requires_grad:
            vectors = quantizer.codebook.vectors
            (gradient,) = torch.autograd.grad(loss, vectors)
            if rank is not None:
                dist.all_reduce(gradient)
                gradient /= 2
            vectors.data -= 0.1 * gradient
        if rank == 0:
            quantizer.eval()(batch_of(step))  # one process alone may look at the codes: no other waits for it
            quantizer.train()
    return quantizer.state_dict()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where two processes left what they had learnt."""
    folder = tmp_path_factory.mktemp("processes")
    workers = [subprocess.Popen([sys.executable, __file__, str(rank), str(folder)]) for rank in range(2)]
    try:
        assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    return folder


@pytest.mark.parametrize("name", LEARNING)
def test_two_processes_learn_what_one_learns(name: str, trained: Path) -> None:
    first, second = (torch.load(trained / f"{name}-{rank}.pt") for rank in range(2))
    alone = train(name, rank=None)
    initial = build(name).state_dict()
    for key, expected in alone.items():
        assert torch.equal(first[key], second[key]), f"the processes differ in {key}"
        torch.testing.assert_close(first[key], expected, rtol=1e-4, atol=1e-5)
    assert not torch.isclose(alone["codebook.vectors"], initial["codebook.vectors"]).all(2).any(), "not all codes moved"


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    for name in LEARNING:
        torch.save(train(name, rank), folder / f"{name}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
