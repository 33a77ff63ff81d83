from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from narrows.priors import CodeSpec, GatedPixelCNN, Prior, TransformerPrior, WaveNetPrior

KINDS: dict[type[Prior], dict[str, Any]] = {
    GatedPixelCNN: {"layers": 2, "width": 16, "head_width": 32},
    TransformerPrior: {"layers": 2, "width": 16, "heads": 2, "memory": 2},
    WaveNetPrior: {"layers": 3, "channels": 16, "skip_channels": 32, "stacks": 1},
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On grids this small a second thread is all waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def make(request: pytest.FixtureRequest) -> Callable[..., Prior]:
    """Makes a small prior of each kind, in double precision, in which labels and earlier codes matter."""

    def make(positions: int = 6, codebooks: int = 1, classes: int = 0, codebook_size: int = 5) -> Prior:
        torch.manual_seed(0)
        grid = (positions,) if request.param is WaveNetPrior else (2, positions // 2)
        prior = request.param(CodeSpec(grid, codebooks, codebook_size, classes), **KINDS[request.param])
        if isinstance(prior, GatedPixelCNN):
            torch.nn.init.normal_(prior.network.condition.weight)
        if isinstance(prior, TransformerPrior):
            torch.nn.init.normal_(prior.network.weight)
        return prior.double()

    return make
