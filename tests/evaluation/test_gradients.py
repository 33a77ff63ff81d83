"""Gradient noise against the exact covariance, by enumeration of 2 latents of 2 categories for each of 2 examples."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor

from narrows.bottlenecks import Categorical, CategoricalPosterior, KMeansStart, RestartUnused, VectorQuantizer
from narrows.bottlenecks.posterior import Bottleneck
from narrows.data import Batch
from narrows.errors import NarrowsError
from narrows.estimators import (
    DAPS,
    REINFORCE,
    Estimator,
    LeaveOneOut,
    MovingAverage,
    NoBaseline,
    Pathwise,
    StraightThroughGumbel,
)
from narrows.evaluation import gradient_noise
from narrows.likelihoods import Bernoulli
from narrows.models import Autoencoder
from narrows.networks import ConvDecoder, ConvEncoder, MLPDecoder, MLPEncoder
from narrows.training.tasks import AutoencoderTask

X = torch.tensor([[[1.0, 0.0, 1.0]], [[0.0, 0.0, 1.0]]])


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On models this small a second thread is all waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def perceptrons(bottleneck: Bottleneck) -> Autoencoder:
    torch.manual_seed(0)
    networks = [partial(network, size=[3], width=4, layers=1) for network in (MLPEncoder, MLPDecoder)]
    return Autoencoder((1, 3), networks[0], bottleneck, networks[1], Bernoulli)


def categorical(size: int = 2) -> Autoencoder:
    torch.manual_seed(1)
    return perceptrons(Categorical(dim=1, codebook_size=size, codebooks=2))


def convolutions() -> Autoencoder:
    """A VQ-VAE that would start and restart codes, and learn them, in training mode."""
    torch.manual_seed(0)
    encoder = partial(ConvEncoder, width=8, downsamplings=1, blocks=1)
    decoder = partial(ConvDecoder, width=8, upsamplings=1, blocks=1)
    bottleneck = VectorQuantizer(dim=4, codebook_size=8, care=[KMeansStart(), RestartUnused(after=1)])
    return Autoencoder((1, 4, 4), encoder, bottleneck, decoder, Bernoulli)


def task(model: Autoencoder, estimator: Estimator) -> AutoencoderTask:
    return AutoencoderTask(model, estimator, Batch)


def learning(model: Autoencoder) -> list[Tensor]:
    return [*model.encoder.parameters(), *model.bottleneck.parameters()]


def enumerated(model: Autoencoder, beta: float) -> tuple[Tensor, Tensor]:
    """The probabilities [16] of the codes of both examples, and REINFORCE's gradient [16, P] for each."""
    bottleneck, posterior = model.bottleneck, model.posterior(X)
    assert isinstance(bottleneck, Categorical)
    assert isinstance(posterior, CategoricalPosterior)
    of_example: list[list[tuple[float, Tensor]]] = [[], []]
    for codes in torch.cartesian_prod(torch.arange(2), torch.arange(2)):
        log_q = posterior.log_prob(codes.expand(1, 2, 2))[0]
        log_likelihood = model.observe(bottleneck.embed(codes.expand(2, 2))).log_prob(X)
        reward = (log_likelihood - beta * (log_q + 2 * math.log(2))).detach()
        loss = -(log_likelihood + reward * log_q) / 3  # nats per dimension
        for b in range(2):
            gradients = torch.autograd.grad(loss[b], learning(model), retain_graph=True)
            gradient = torch.cat([part.flatten() for part in gradients])
            of_example[b].append((log_q[b].exp().item(), gradient))
    pairs = list(itertools.product(*of_example))
    probabilities = torch.tensor([p * q for (p, _), (q, _) in pairs])
    return probabilities, torch.stack([(g + h) / 2 for (_, g), (_, h) in pairs])


def test_the_variance_is_that_of_the_enumerated_gradients() -> None:
    model, beta, draws = categorical(), 0.5, 1500
    with torch.no_grad():
        for weight in model.decoder.parameters():
            weight.mul_(4)  # the codes matter, so that a good part of the gradient is no noise
    probabilities, gradients = enumerated(model, beta)
    assert probabilities.sum().item() == pytest.approx(1)
    found = gradient_noise(task(model, REINFORCE(NoBaseline, beta, samples=1)), (X,), draws)

    squares = gradients.square().sum(1)
    deviations = (gradients - probabilities @ gradients).square().sum(1)
    variance, length = probabilities @ deviations, probabilities @ squares
    error = ((probabilities @ deviations.square() - variance.square()) / draws).sqrt()
    assert abs(found["gradient_variance"] - variance) < 4 * error
    noise = variance / length
    # By the delta method, the ratio of two means varies as (deviations - noise * squares) / length does.
    residual = (deviations - noise * squares) / length
    assert abs(found["gradient_noise"] - noise) < 4 * ((probabilities @ residual.square()) / draws).sqrt()
    assert 4 * error < 0.1 * variance
    assert noise < 0.8


def test_it_is_the_noise_of_the_loss_in_training() -> None:
    """The unbiased variance of a few draws, by all their gradients at once."""
    model, estimator, draws = categorical(3), DAPS(samples=4), 5
    loss = task(model, estimator).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        gradients = torch.stack(
            [
                torch.cat([part.flatten() for part in torch.autograd.grad(loss(X)[0], learning(model))])
                for _ in range(draws)
            ]
        )
    found = gradient_noise(task(model, estimator), (X,), draws)
    variance = gradients.var(0).sum().item()
    assert found["gradient_variance"] == pytest.approx(variance, rel=1e-5)
    assert found["gradient_noise"] == pytest.approx(variance / gradients.square().sum(1).mean().item(), rel=1e-5)


def test_a_deterministic_gradient_has_no_noise() -> None:
    found = gradient_noise(task(convolutions(), Pathwise()), (torch.ones(2, 1, 4, 4),), draws=3)
    assert found == {"gradient_variance": 0, "gradient_noise": 0}


def test_the_other_samples_as_a_baseline_lower_the_noise() -> None:
    model = categorical()
    plain, compared = (
        gradient_noise(task(model, REINFORCE(baseline)), (X,), 100) for baseline in (NoBaseline, LeaveOneOut)
    )
    assert compared["gradient_variance"] < plain["gradient_variance"] / 2
    assert compared["gradient_noise"] < plain["gradient_noise"]


@pytest.mark.parametrize(
    ("build", "estimator"),
    [
        (convolutions, Pathwise()),
        (categorical, REINFORCE(MovingAverage)),
        (categorical, StraightThroughGumbel()),
        (categorical, DAPS()),
    ],
)
def test_training_is_left_alone(build: Callable[[], Autoencoder], estimator: Estimator) -> None:
    model = build()
    x = torch.bernoulli(torch.full((2, *model.shape), 0.5))
    model.train().encoder.eval()
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 7)
    tensors = [tensor for part in (model, estimator) for tensor in (*part.parameters(), *part.buffers())]
    modes = [module.training for part in (model, estimator) for module in part.modules()]
    before, random = copy.deepcopy(tensors), torch.get_rng_state()
    with torch.no_grad():
        found = gradient_noise(task(model, estimator), (x,), 3)
    assert all(map(torch.equal, tensors, before))
    for parameter in model.parameters():
        torch.testing.assert_close(parameter.grad, torch.full_like(parameter, 7))
    assert [module.training for part in (model, estimator) for module in part.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert gradient_noise(task(model, estimator), (x,), 3) == found


def test_modes_come_back_after_an_error() -> None:
    model = categorical()
    with pytest.raises(NarrowsError, match="Pathwise needs a gradient"):
        gradient_noise(task(model, Pathwise()), (X,))
    assert all(module.training for module in model.modules())


def test_bad_input_is_named() -> None:
    model = categorical()
    with pytest.raises(NarrowsError, match="draws is 1: a variance needs at least 2"):
        gradient_noise(task(model, DAPS()), (X,), draws=1)
    with pytest.raises(NarrowsError, match="the encoder and the bottleneck are frozen"):
        gradient_noise(task(model.requires_grad_(False), DAPS()), (X,))
