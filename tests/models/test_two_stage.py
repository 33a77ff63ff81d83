import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from narrows.bottlenecks import Categorical, Gaussian, Hierarchy
from narrows.bottlenecks.posterior import Bottleneck
from narrows.data import Batch
from narrows.errors import NarrowsError
from narrows.estimators import Pathwise
from narrows.likelihoods import Bernoulli, GaussianFixed
from narrows.models import Autoencoder, TwoStage
from narrows.networks import Head, Stem
from narrows.networks.mlp import MLPDecoder, MLPEncoder


def first(bottleneck: Bottleneck, size: int = 2) -> Autoencoder:
    def encoder(inputs: int, outputs: int) -> nn.Module:
        return MLPEncoder(inputs, outputs, size=[size, size], width=8)

    def decoder(inputs: int, outputs: int) -> nn.Module:
        return MLPDecoder(inputs, outputs, size=[size, size], width=8)

    return Autoencoder((1, size, size), encoder, bottleneck, decoder, Bernoulli)


def pair(stage: Autoencoder | None = None, size: int = 2) -> TwoStage:
    torch.manual_seed(0)
    hierarchy = Hierarchy(width=6, latents=1, middle=4, layers={1: 1, size: 1})
    model = TwoStage((1, size, size), Stem, hierarchy, Head, Bernoulli)
    with torch.no_grad():  # as if trained: every network has a say
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    model.attach_to(stage or first(Gaussian(channels=1), size))
    return model


def images(n: int, size: int = 2) -> torch.Tensor:
    return torch.randint(2, (n, 1, size, size), generator=torch.Generator().manual_seed(1)).float()


@pytest.mark.parametrize("bottleneck", [partial(Gaussian, channels=1), partial(Categorical, dim=2, codebook_size=3)])
def test_the_bound_of_the_pair_is_that_of_its_own_samples(bottleneck: Callable[[], Bottleneck]) -> None:
    """log p(x) by importance sampling from the posterior is log p(x) by sampling from the prior."""
    torch.manual_seed(7)
    model, x = pair(first(bottleneck())).eval(), images(3)
    torch.manual_seed(3)
    with torch.no_grad():
        _, evidence = model.evidence(Batch(x), lambda posterior: posterior.draw(10_000))
        weights = (evidence.log_likelihood + evidence.log_p - evidence.log_q).exp()
        probabilities = torch.stack([model.generate(10_000).log_prob(image.expand(10_000, 1, 2, 2)) for image in x], 1)
    (ours, error), (wanted, other) = (
        (values.mean(0), values.std(0) / math.sqrt(len(values))) for values in (weights, probabilities.exp())
    )
    assert ((ours - wanted).abs() < 4 * torch.hypot(error, other)).all()
    assert (error < 0.2 * ours).all()
    assert (evidence.log_likelihood.mean(0) - evidence.rate < ours.log()).all()


def test_the_rate_is_that_of_both_stages() -> None:
    model, x = pair(), images(5)
    draw = model.posterior(x).draw(3)
    assert list(draw.layer_rates) == [("first stage", 1), ("1x1", 1), ("2x2", 1)]
    torch.testing.assert_close(sum(draw.layer_rates.values()), draw.rate.detach())
    with torch.no_grad():
        alone = model.first.posterior(x).draw().rate
    torch.testing.assert_close(draw.layer_rates["first stage", 1], alone)
    assert draw.z.shape == (3, 5, 6, 2, 2)


def test_the_layers_of_a_first_hierarchy_keep_their_rates() -> None:
    hierarchy = Hierarchy(width=6, latents=1, middle=4, layers={1: 1, 2: 1})
    model, x = pair(Autoencoder((1, 2, 2), Stem, hierarchy, Head, Bernoulli)), images(3)
    draw = model.posterior(x).draw()
    first = [("first stage 1x1", 1), ("first stage 2x2", 1)]
    assert list(draw.layer_rates) == [*first, ("1x1", 1), ("2x2", 1)]
    torch.testing.assert_close(sum(draw.layer_rates.values()), draw.rate.detach())


def test_training_reaches_the_second_stage_alone() -> None:
    model, x = pair(), images(5)
    before = {name: parameter.clone() for name, parameter in model.first.named_parameters()}
    model.train()
    assert model.bottleneck.training
    assert not any(module.training for module in model.first.modules())
    _, evidence = model.evidence(Batch(x), Pathwise().draw)
    Pathwise()(evidence).sum().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("first_stage."), name
    for name, parameter in model.first.named_parameters():
        assert torch.equal(parameter, before[name])


def test_latents_and_mean_are_given_what_the_first_stage_says() -> None:
    model, x = pair(size=4), images(2, size=4)
    known = model.first.reconstruct(x).requires_grad_()
    posterior = model.second_posterior(x, known)
    (gradient,) = torch.autograd.grad(posterior.mode.square().sum(), known)
    assert (gradient != 0).all()
    known = known.detach().requires_grad_()
    torch.manual_seed(0)
    z = model.bottleneck.sample_prior(2, (4, 4), model._context(known))
    (gradient,) = torch.autograd.grad(model.observe(z).mean.square().sum(), known)
    assert (gradient != 0).all()


def test_reconstructions_interpolations_and_codes_agree() -> None:
    model, x = pair(size=4).eval(), images(4, size=4)
    torch.testing.assert_close(model.decode(model.encode(x)), model.reconstruct(x))
    path = model.interpolate(x[:2], x[2:], 5)
    assert path.shape == (2, 5, 1, 4, 4)
    torch.testing.assert_close(path[:, 0], model.reconstruct(x[:2]))
    torch.testing.assert_close(path[:, -1], model.reconstruct(x[2:]))
    assert model.sample(3).shape == (3, 1, 4, 4)


def test_a_stage_that_is_missing_or_of_other_images_is_refused() -> None:
    model = TwoStage((1, 2, 2), Stem, Hierarchy(4, 1, 4, {1: 1, 2: 1}), Head, GaussianFixed)
    with pytest.raises(NarrowsError, match="--on RUN"):
        model.posterior(images(1)).draw()
    with pytest.raises(NarrowsError, match=r"models images of 1x4x4 .* these are 1x2x2"):
        model.attach_to(first(Gaussian(channels=1), size=4))


def test_the_posterior_reads_a_convolution_of_both() -> None:
    torch.manual_seed(0)
    model = TwoStage((1, 2, 2), Stem, Hierarchy(4, 1, 4, {1: 1, 2: 1}), Head, GaussianFixed)
    x, known = images(3), images(3).flip(0) / 2
    weights = torch.cat([model.encoder.embed.weight, model.encoder_of_known.embed.weight], 1)
    both = nn.functional.conv2d(2 * torch.cat([x, known], 1) - 1, weights, padding=1)
    wanted = model.bottleneck.bottom_up(both, nn.Module.__call__)
    torch.testing.assert_close(model.second_posterior(x, known).activations, wanted)
