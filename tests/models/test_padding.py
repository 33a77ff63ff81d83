"""A batch padded to twice its length gives the same loss, gradients, codebook, figures and running statistics."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from narrows.bottlenecks import (
    FSQ,
    Autoregressive,
    Bottleneck,
    Categorical,
    CosineCodebook,
    Gaussian,
    KMeansStart,
    LearntCodebook,
    ResidualQuantizer,
    RestartUnused,
    VectorQuantizer,
)
from narrows.data import Batch, Spec
from narrows.estimators import DAPS, Estimator, Pathwise
from narrows.likelihoods import MuLawCategorical
from narrows.models import Autoencoder
from narrows.networks import SpectrogramEncoder, StridedDecoder, StridedEncoder, WaveNetDecoder
from narrows.training.tasks import AutoencoderTask

HOP, WINDOW, LEVELS, STEPS = 6, 48, 16, 4
ENCODERS = {
    "strided": partial(StridedEncoder, width=6, strides=(2, 3), blocks=1),
    "spectrogram": partial(SpectrogramEncoder, width=6, window=5, step=2, strides=(3,), blocks=1),
}
DECODERS = {
    "wavenet": partial(WaveNetDecoder, local_channels=4, channels=6, skip_channels=16, stacks=1, layers=3),
    "strided": partial(StridedDecoder, width=8, strides=(3, 2), blocks=1),
}
CARE = [KMeansStart(batches=2), RestartUnused(after=1)]
QUANTIZERS: dict[str, Callable[[], Bottleneck]] = {
    "ema": lambda: VectorQuantizer(3, 16, care=CARE),
    "learnt": lambda: VectorQuantizer(3, 16, codebook=LearntCodebook, care=CARE),
    "cosine": lambda: VectorQuantizer(3, 16, codebooks=2, codebook=CosineCodebook, care=CARE),
    "residual": lambda: ResidualQuantizer(partial(VectorQuantizer, 3, 8, care=CARE), depth=2),
    "fsq": lambda: FSQ([4, 3]),
}


def waves(windows: int = 3) -> Batch:
    """Windows of which the first is real as a whole, and the others in part."""
    x = 2 * torch.rand(windows, 1, WINDOW, generator=torch.Generator().manual_seed(1)) - 1
    mask = torch.arange(WINDOW) < torch.tensor([WINDOW, 31, 13][:windows]).unsqueeze(1)
    return Batch(x.where(mask.unsqueeze(1), 0), mask, torch.tensor([0, 2, 1][:windows]))


def padded(batch: Batch) -> Batch:
    """Twice as long, with junk where nothing counts."""
    assert batch.mask is not None
    mask = torch.cat([batch.mask, torch.zeros_like(batch.mask)], 1)
    junk = torch.rand(len(mask), 1, 2 * WINDOW, generator=torch.Generator().manual_seed(2))
    x = torch.cat([batch.x, batch.x], 2).where(mask.unsqueeze(1), junk)
    return Batch(x, mask, batch.condition)


def task(encoder: str, bottleneck: Bottleneck, decoder: str, estimator: Estimator) -> AutoencoderTask:
    torch.manual_seed(0)
    spec = Spec((1, WINDOW), "sound", ("al", "bo", "cy"), (-1.0, 1.0), True, 2000)
    likelihood = partial(MuLawCategorical, levels=LEVELS)
    model = Autoencoder(spec, ENCODERS[encoder], bottleneck, DECODERS[decoder], likelihood)
    return AutoencoderTask(model.double(), estimator, Batch)


def made(bottleneck: Callable[[], Bottleneck]) -> Bottleneck:
    torch.manual_seed(3)
    return bottleneck()


def trained(task: AutoencoderTask, batch: Batch) -> tuple[list[Tensor], list[dict[str, Tensor]], dict[str, Tensor]]:
    """The losses and figures of a few steps of plain descent, and the state that they lead to."""
    losses, figures = [], []
    for _ in range(STEPS):
        loss, found = task(*batch)
        task.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in task.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
        losses.append(loss.detach())
        figures.append(found)
    return losses, figures, task.state_dict()


def assert_same(alone: object, beside: object) -> None:
    torch.testing.assert_close(alone, beside, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("kind", QUANTIZERS)
def test_training_does_not_see_padding(kind: str, encoder: str, decoder: str) -> None:
    """Steps with the k-means start, restarts, running averages and batch norm: everything that learns."""
    batch = waves()
    alone = trained(task(encoder, made(QUANTIZERS[kind]).float(), decoder, Pathwise()).float(), _float(batch))
    beside = trained(task(encoder, made(QUANTIZERS[kind]).float(), decoder, Pathwise()).float(), _float(padded(batch)))
    for one, other in zip(alone, beside, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_exact_parts_of_sampled_latents_do_not_see_padding(encoder: str, decoder: str) -> None:
    """The rate of Gaussian and categorical latents has a closed form; the rest depends on random numbers."""
    for bottleneck in (Gaussian(3), Categorical(3, 5), Categorical(2, 4, codebooks=2)):
        model = task(encoder, bottleneck, decoder, Pathwise()).model.eval()
        rates = []
        for batch in (waves(), padded(waves())):
            posterior = model.posterior(batch.x.double(), batch.mask)
            rates.append(posterior.draw().rate)
        assert_same(*rates)


def test_codes_written_one_after_another_do_not_see_padding() -> None:
    encoder = partial(StridedEncoder, width=6, strides=(2, 3), blocks=1)
    torch.manual_seed(0)
    spec = Spec((1, WINDOW), "sound", ("al", "bo", "cy"), (-1.0, 1.0), True, 2000)
    bottleneck = Autoregressive(dim=3, codebook_size=5, width=8, layers=1, heads=2)
    likelihood = partial(MuLawCategorical, levels=LEVELS)
    model = Autoencoder(spec, encoder, bottleneck, DECODERS["strided"], likelihood).eval()
    found = []
    for batch in (waves(), padded(waves())):
        posterior = model.posterior(batch.x, batch.mask)
        assert posterior.codes is not None
        codes = posterior.codes[:, : WINDOW // HOP]
        assert batch.mask is not None
        mask = model.latent_mask(batch.mask, tuple(posterior.codes.shape[1:]))
        assert mask is not None
        found.append(codes.masked_fill(~mask[:, : WINDOW // HOP], -1))
    assert torch.equal(*found)


def test_clips_of_several_lengths_in_a_batch_cost_what_they_cost_alone() -> None:
    model = task("strided", made(QUANTIZERS["ema"]), "wavenet", Pathwise()).model.float().eval()
    batch = waves()
    assert batch.mask is not None
    assert batch.condition is not None
    _, together = model.evidence(batch, lambda posterior: posterior.draw())
    for index, length in enumerate(batch.mask.sum(1).tolist()):
        own = Batch(batch.x[index : index + 1, :, :length], None, batch.condition[index : index + 1])
        _, alone = model.evidence(own, lambda posterior: posterior.draw())
        assert_same(alone.rate[0], together.rate[index])
        assert_same(alone.log_likelihood[0, 0], together.log_likelihood[0, index])


def test_an_estimator_of_sampled_codes_trains_on_padded_windows() -> None:
    """All its parameters learn, and nothing is infinite."""
    trainee = task("strided", Categorical(3, 5), "strided", DAPS(samples=4)).float()
    loss, figures = trainee(*_float(padded(waves())))
    loss.backward()
    assert loss.isfinite()
    assert all(value.isfinite() for value in figures.values())
    assert all(part.grad is not None and part.grad.isfinite().all() for part in _weights(trainee))


def _weights(module: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def _float(batch: Batch) -> Batch:
    return batch._replace(x=batch.x.float())
