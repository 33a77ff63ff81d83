"""A tiny run with random weights, with and without actions, and a recording for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from narrows.config import ModelRecipe, PriorRecipe, resolve
from narrows.data import Spec
from narrows.modalities.video.actions import Actions
from narrows.modalities.video.npz import write_npz
from narrows.pretrained import save_autoencoder, save_prior
from narrows.priors import FramePixelCNN

NAMES = ("left", "right", "ahead")
SIZE, LENGTH = 12, 9
MODEL: dict[str, Any] = {
    "class_path": "Autoencoder",
    "init_args": {
        "encoder": {
            "class_path": "PerFrameEncoder",
            "init_args": {"encoder": {"class_path": "ConvEncoder", "init_args": {"width": 4, "blocks": 1}}},
        },
        "bottleneck": {"class_path": "VectorQuantizer", "init_args": {"dim": 3, "codebook_size": 8}},
        "decoder": {
            "class_path": "PerFrameDecoder",
            "init_args": {"decoder": {"class_path": "ConvDecoder", "init_args": {"width": 4, "blocks": 1}}},
        },
        "likelihood": {"class_path": "DiscretizedLogistic"},
    },
}
PRIOR = {
    "class_path": "FramePixelCNN",
    "init_args": {"frames": 2, "context_width": 8, "blocks": 1, "layers": 1, "width": 8, "head_width": 8},
}


@pytest.fixture(scope="module", params=[True, False], ids=["actions", "no actions"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a random model and a random prior in which actions, if there are any, matter."""
    folder = tmp_path_factory.mktemp("run")
    actions = Actions(NAMES) if request.param else Actions()
    spec = Spec(
        (3, 6, SIZE, SIZE), "video", variable=True, rate=5.0, channels=actions.channels, details=actions.details
    )
    torch.manual_seed(0)
    model = resolve(ModelRecipe, {"model": MODEL}).build().model(spec)
    torch.nn.init.normal_(model.bottleneck.codebook.vectors)
    save_autoencoder(folder / "model", model, yaml.safe_dump({"model": MODEL}))
    prior = resolve(PriorRecipe, {"prior": PRIOR}).build().prior(model.codes)
    assert isinstance(prior, FramePixelCNN)
    assert prior.network.local is not None
    torch.nn.init.normal_(prior.network.local.weight)
    if prior.context.condition is not None:
        torch.nn.init.normal_(prior.context.condition.weight)
    save_prior(folder / "prior" / "model", prior, yaml.safe_dump({"prior": PRIOR}))
    return folder


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Two episodes of random frames with actions."""
    rng = np.random.default_rng(0)
    frames = rng.integers(256, size=(2 * LENGTH, SIZE, SIZE, 3), dtype=np.uint8)
    episode = np.repeat([0, 1], LENGTH)
    write_npz(tmp_path / "two.npz", frames, rng.integers(3, size=2 * LENGTH), episode, 5.0, NAMES)
    return tmp_path / "two.npz"
