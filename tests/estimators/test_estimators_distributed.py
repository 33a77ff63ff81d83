"""Two processes that each hold a part of a batch find the trust region and the average reward of the whole batch.

Run as a script, this file is one of the two processes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from narrows.estimators import DAPS, Evidence, MovingAverage

SHARE = 5
"""Examples of the first process, of 12."""


def found(part: slice) -> dict[str, Tensor]:
    """What two batches make of DAPS's target and of a moving average, where this process has that part of them."""
    generator = torch.Generator().manual_seed(0)
    average = MovingAverage(decay=0.9)
    for _ in range(2):
        rewards = (torch.randn(8, 12, generator=generator) * torch.arange(1, 13))[:, part]
        log_q = -torch.rand(8, 12, generator=generator)[:, part]
        average(rewards, rewards[0])
    weights, eta, _ = DAPS().target(Evidence(rewards, log_q, log_q, log_q[0], log_q[0]))
    return {"weights": weights, "eta": eta, **average.state_dict()}


def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    workers = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    try:
        assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    finally:
        for worker in workers:
            worker.kill()
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    alone = found(slice(None))
    torch.testing.assert_close(torch.cat([first.pop("weights"), second.pop("weights")], 1), alone.pop("weights"))
    for name, expected in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], expected)


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2)
    torch.save(found(slice(SHARE) if rank == 0 else slice(SHARE, None)), folder / f"{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
