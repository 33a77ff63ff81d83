import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

TINY_MODEL = """
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: ConvEncoder, init_args: {width: 8, downsamplings: 1, blocks: 1}}
    bottleneck:
      class_path: VectorQuantizer
      init_args:
        dim: 4
        codebook_size: 8
        care: [{class_path: KMeansStart}, {class_path: RestartUnused, init_args: {after: 3}}]
    decoder: {class_path: ConvDecoder, init_args: {width: 8, upsamplings: 1, blocks: 1}}
    likelihood: {class_path: DiscretizedLogistic}
estimator: {class_path: Pathwise}
data: {source: digits}
training: {steps: 12, batch_size: 32, log_every: 1, validate_every: 6, checkpoint_every: 4}
variants:
  vae:
    model:
      init_args:
        bottleneck: {class_path: Gaussian, init_args: {channels: 2}}
"""
TINY_PRIOR = """
prior: {class_path: GatedPixelCNN, init_args: {layers: 2, width: 8, first_kernel_size: 3, head_width: 8, dropout: 0.1}}
training: {steps: 6, batch_size: 32, log_every: 1, validate_every: 3, checkpoint_every: 3}
"""


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Here and in the processes that tests start: figures do not depend on the cores, and two workers fit on two."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


@pytest.fixture
def noise() -> Callable[..., np.ndarray]:
    """Random pixels [H, W] or [H, W, 3], different at every call."""
    generator = np.random.default_rng(0)
    return lambda *shape: generator.integers(0, 256, shape, np.uint8)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The recipe of a model that trains in a moment."""
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY_MODEL)
    return path


@pytest.fixture
def tiny_prior(tmp_path: Path) -> Path:
    """The recipe of a prior that trains in a moment."""
    path = tmp_path / "tiny-prior.yaml"
    path.write_text(TINY_PRIOR)
    return path


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a tiny VQ-VAE with its prior; not to be changed."""
    from narrows.cli import main

    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.yaml").write_text(TINY_MODEL)
    (folder / "prior.yaml").write_text(TINY_PRIOR)
    assert main(["train", str(folder / "tiny.yaml"), "--out", str(folder / "run")]) == 0
    assert main(["prior", str(folder / "run"), "--recipe", str(folder / "prior.yaml")]) == 0
    return folder / "run"
