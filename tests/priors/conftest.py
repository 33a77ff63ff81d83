from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from narrows.priors import CodeSpec, FramePixelCNN, GatedPixelCNN, Prior, TransformerPrior, WaveNetPrior

Grid = Callable[[int], tuple[int, ...]]
"""From the number of positions, even, to a grid."""
TRANSFORMER = {"layers": 2, "width": 16, "heads": 2, "memory": 2}
FRAMES = {"frames": 2, "context_width": 8, "blocks": 2, "layers": 2, "width": 16, "head_width": 32, "hidden": 0.0}
KINDS: dict[str, tuple[type[Prior], dict[str, Any], Grid]] = {
    "GatedPixelCNN": (GatedPixelCNN, {"layers": 2, "width": 16, "head_width": 32}, lambda n: (2, n // 2)),
    "FramePixelCNN": (FramePixelCNN, FRAMES, lambda n: (n // 2, 1, 2) if n % 4 else (2, 2, n // 4)),
    "TransformerPrior": (TransformerPrior, TRANSFORMER, lambda n: (2, n // 2)),
    "TransformerPrior of frames": (TransformerPrior, TRANSFORMER, lambda n: (n // 2, 1, 2)),
    "WaveNetPrior": (WaveNetPrior, {"layers": 3, "channels": 16, "skip_channels": 32, "stacks": 1}, lambda n: (n,)),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On grids this small a second thread is all waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Callable[..., Prior]:
    """Makes a small prior of each kind, in double precision, in which conditions and earlier codes matter."""
    kind, settings, grid = KINDS[request.param]

    def make(
        positions: int = 6, codebooks: int = 1, classes: int = 0, codebook_size: int = 5, channels: int = 0
    ) -> Prior:
        torch.manual_seed(0)
        prior = kind(CodeSpec(grid(positions), codebooks, codebook_size, classes, channels), **settings)
        if isinstance(prior, GatedPixelCNN | FramePixelCNN):
            torch.nn.init.normal_(prior.network.condition.weight)
            if prior.network.local is not None:
                torch.nn.init.normal_(prior.network.local.weight)
        if isinstance(prior, FramePixelCNN) and prior.context.condition is not None:
            torch.nn.init.normal_(prior.context.condition.weight)
        if isinstance(prior, TransformerPrior):
            torch.nn.init.normal_(prior.network.weight)
        return prior.double()

    return make
