import copy
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional

from narrows.bottlenecks import Hierarchy
from narrows.bottlenecks.diagonal import DiagonalGaussian
from narrows.bottlenecks.stochastic import StochasticBlock
from narrows.config import ModelRecipe, resolve
from narrows.data import Batch
from narrows.errors import NarrowsError
from narrows.likelihoods import Bernoulli
from narrows.models import Autoencoder
from narrows.networks import Head, Stem

LAYERS = {1: 2, 2: 1, 4: 2}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def made(layers: dict[int, int] = LAYERS, checkpointing: bool = False, latents: int = 2) -> Hierarchy:
    """A hierarchy as if trained: every prior hangs on the latents before it, every posterior on x."""
    torch.manual_seed(2)
    hierarchy = Hierarchy(width=6, latents=latents, middle=4, layers=layers, checkpointing=checkpointing)
    with torch.no_grad():
        for parameter in hierarchy.parameters():
            parameter += 0.2 * torch.randn(parameter.shape)
        for block in blocks(hierarchy):
            block.inference.layers[-1].bias[latents:] -= 3
    return hierarchy


def blocks(hierarchy: Hierarchy) -> list[StochasticBlock]:
    return [block for stage in hierarchy.stages for block in stage]


def gaussian(mean: float = 0, spread: float = 1) -> DiagonalGaussian:
    return DiagonalGaussian(mean + torch.randn(3, 2, 4, 4), spread * torch.randn(3, 2, 4, 4))


def normal(of: DiagonalGaussian) -> Normal:
    return Normal(of.mean, (of.log_variance / 2).exp())


def evidence(prior: DiagonalGaussian, features: Tensor) -> Normal:
    """The evidence that `merged` describes: variance v sigma^2, mean h v sigma beyond the prior's."""
    slope, log_variance = DiagonalGaussian.read(features)
    mean = prior.mean + slope * (log_variance - prior.log_variance / 2).exp()
    return Normal(mean, (log_variance / 2).exp())


def test_densities_and_divergences_are_those_of_torch() -> None:
    q, noise = gaussian(), torch.randn(3, 2, 4, 4)
    z = q.at(noise)
    torch.testing.assert_close(q.noise(z), noise)
    torch.testing.assert_close(q.log_prob_at(noise), normal(q).log_prob(z).sum((1, 2, 3)))
    torch.testing.assert_close(q.kl_to_standard(), kl_divergence(normal(q), Normal(0, 1)).sum((1, 2, 3)))
    assert (DiagonalGaussian(torch.zeros(3, 2, 4, 4), torch.zeros(3, 2, 4, 4)).kl_to_standard() == 0).all()


def test_a_placed_distribution_is_that_of_mean_and_sigma_times_a_draw() -> None:
    outer, inner, noise = gaussian(), gaussian(), torch.randn(3, 2, 4, 4)
    placed = outer.placed(inner)
    torch.testing.assert_close(placed.at(noise), outer.at(inner.at(noise)))
    torch.testing.assert_close(normal(placed).stddev, normal(outer).stddev * normal(inner).stddev)


def test_merging_is_the_normalised_product() -> None:
    """log p + log e - log q is the same at every z, and q a density: no other Gaussian does that."""
    prior, features = gaussian(), torch.randn(3, 4, 4, 4)
    posterior, given = prior.placed(prior.merged(features)), evidence(prior, features)
    z = torch.linspace(-3, 3, 13).view(-1, 1, 1, 1, 1)
    constant = normal(prior).log_prob(z) + given.log_prob(z) - normal(posterior).log_prob(z)
    torch.testing.assert_close(constant, constant[:1].expand_as(constant), rtol=1e-4, atol=1e-4)
    precisions = [1 / of.variance for of in (normal(prior), given, normal(posterior))]
    torch.testing.assert_close(precisions[2], precisions[0] + precisions[1])


def test_evidence_moves_the_posterior_by_the_share_of_variance_that_it_leaves() -> None:
    prior, features = gaussian(), torch.randn(3, 4, 4, 4)
    posterior = prior.merged(features)
    slope = features[:, :2]
    torch.testing.assert_close(posterior.mean, slope * posterior.log_variance.exp())
    features[:, 2:] = 1e9
    silent = prior.merged(features)
    torch.testing.assert_close(silent.log_variance, torch.zeros_like(slope), rtol=0, atol=1e-5)
    torch.testing.assert_close(silent.mean, slope)


def test_a_draw_is_what_a_plain_pass_with_torch_distributions_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    hierarchy, features = made(), torch.randn(3, 6, 4, 4)
    noises = [torch.randn(3, 2, size, size) for size, count in LAYERS.items() for _ in range(count)]
    posterior = hierarchy(features)

    x, log_q, log_p, rates = torch.zeros(3, 6, 1, 1), torch.zeros(3), torch.zeros(3), []
    served = iter(noises)
    for size, upsample, stage in zip(LAYERS, hierarchy.upsamplings, hierarchy.stages, strict=True):
        x = x.repeat_interleave(size // x.shape[2], 2).repeat_interleave(size // x.shape[3], 3) + upsample.bias
        for block in stage:
            p_mean, p_raw, more = block.prior(x).split([2, 2, 6], 1)
            read = torch.cat([functional.gelu(x), posterior.activations[size]], 1)
            slope, e_raw = block.inference.layers[1:](read).chunk(2, 1)
            p_variance, e_variance = ((raw / (1 + raw.abs() / 20)).exp() for raw in (p_raw, e_raw))
            e_mean = p_mean + slope * e_variance / p_variance.sqrt()
            variance = 1 / (1 / p_variance + 1 / e_variance)
            q = Normal(variance * (p_mean / p_variance + e_mean / e_variance), variance.sqrt())
            p = Normal(p_mean, p_variance.sqrt())
            z = q.mean + q.stddev * next(served)
            log_q, log_p = log_q + q.log_prob(z).sum((1, 2, 3)), log_p + p.log_prob(z).sum((1, 2, 3))
            rates.append(kl_divergence(q, p).sum((1, 2, 3)))
            x = x + more + block.project(z)
            x = x + block.residual.layers(x)

    serve(monkeypatch, iter(noises))
    draw = posterior.draw()
    kl = torch.stack(rates)
    for actual, wanted in zip(draw[:4], (x[None], log_q[None], log_p[None], kl.sum(0)), strict=True):
        torch.testing.assert_close(actual, wanted)
    assert list(draw.layer_rates) == [("1x1", 1), ("1x1", 2), ("2x2", 1), ("4x4", 1), ("4x4", 2)]
    torch.testing.assert_close(torch.stack(list(draw.layer_rates.values())), kl.detach())
    assert kl.mean(1).min() > 0.05
    by_size = {"rate_at_1x1": kl[:2], "rate_at_2x2": kl[2:3], "rate_at_4x4": kl[3:]}
    assert draw.statistics.keys() == by_size.keys()
    for name, part in by_size.items():
        torch.testing.assert_close(draw.statistics[name], part.detach().sum(0).mean())


def test_a_draw_keeps_its_figures_when_the_posterior_is_drawn_from_again() -> None:
    posterior = made()(torch.randn(3, 6, 4, 4))
    draw = posterior.draw()
    kept = {name: figure.clone() for name, figure in draw.statistics.items()}
    again = posterior.draw(2)
    assert posterior.statistics == {}
    assert draw.statistics == kept
    assert all(again.statistics[name] != figure for name, figure in kept.items())
    torch.testing.assert_close(sum(again.layer_rates.values()), again.rate.detach())


def serve(monkeypatch: pytest.MonkeyPatch, noises: Iterator[Tensor]) -> None:
    monkeypatch.setattr(torch, "randn", lambda *_, **__: next(noises))


def test_samples_are_separate_draws_under_the_same_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = made()(torch.randn(3, 6, 4, 4))
    noises = [torch.randn(5, 3, 2, size, size) for size, count in LAYERS.items() for _ in range(count)]
    with monkeypatch.context() as patch:
        serve(patch, (noise.flatten(0, 1) for noise in noises))
        together = posterior.draw(5)
    rates = []
    for s in range(5):
        with monkeypatch.context() as patch:
            serve(patch, (noise[s] for noise in noises))
            alone = posterior.draw()
        rates.append(alone.rate)
        for many, one in zip(together[:3], alone[:3], strict=True):
            torch.testing.assert_close(many[s], one[0])
    torch.testing.assert_close(together.rate, torch.stack(rates).mean(0))


def test_the_rate_is_the_mean_log_ratio_of_draws() -> None:
    draws = 10_000
    draw = made()(torch.randn(1, 6, 4, 4).expand(draws, -1, -1, -1)).draw()
    excess = draw.log_q[0] - draw.log_p[0] - draw.rate
    assert abs(excess.mean()) < 4 * excess.std() / math.sqrt(draws)
    assert draw.rate.std() > 0.01


def test_the_importance_weighted_bound_lies_between_the_elbo_and_the_evidence() -> None:
    """Two scalar latents, so that p(x) is an integral over the prior's noise that a grid of points gives."""
    hierarchy, repeats = made({1: 2}, latents=1), 5_000

    def log_likelihood(z: Tensor) -> Tensor:
        return Normal(z.flatten(-3).sum(-1), 0.5).log_prob(torch.tensor(1.5))

    points = torch.linspace(-6, 6, 301)
    grid = iter(noise.reshape(-1, 1, 1, 1) for noise in torch.meshgrid(points, points, indexing="ij"))
    density = 2 * Normal(0.0, 1.0).log_prob(points).logsumexp(0)
    log_p = sum(Normal(0.0, 1.0).log_prob(noise) for noise in torch.cartesian_prod(points, points).T)
    z = hierarchy.top_down(301**2, lambda block, x: block.generate(x, next(grid)))
    evidence = ((log_p + log_likelihood(z)).logsumexp(0) - density).item()

    posterior = hierarchy(torch.randn(1, 6, 1, 1).expand(repeats, -1, -1, -1))

    def spread(bound: Tensor) -> tuple[float, float]:
        return bound.mean().item(), 4 * bound.std().item() / math.sqrt(repeats)

    def importance_weighted(samples: int) -> tuple[float, float]:
        z, log_q, log_p = posterior.draw(samples)[:3]
        return spread((log_likelihood(z) + log_p - log_q).logsumexp(0) - math.log(samples))

    draw = posterior.draw()
    elbo, elbo_error = spread(log_likelihood(draw.z)[0] - draw.rate)
    (eight, eight_error), (many, many_error) = importance_weighted(8), importance_weighted(64)
    assert elbo + elbo_error < eight - eight_error < eight + eight_error < many - many_error
    assert many - many_error < evidence < many + many_error + 0.1 * (evidence - elbo)


def test_the_default_is_the_published_network() -> None:
    """48 layers of 16 channels, width 128, 32 inside a block (Prioritizing the Bits that Matter, appendix A.1)."""
    hierarchy = Hierarchy()
    sizes = [block.resolution for block in blocks(hierarchy)]
    assert len(sizes) == 48
    assert [(size, sizes.count(size)) for size in (1, 4, 8, 16, 32)] == [(1, 2), (4, 4), (8, 10), (16, 16), (32, 16)]
    assert sizes == sorted(sizes)
    assert [len(stage) for stage in hierarchy.bottom_up.stages] == [8, 8, 5, 2, 1]
    for block in blocks(hierarchy):
        assert block.project.weight.shape == (128, 16, 1, 1)
        assert block.inference.layers[1].weight.shape == (32, 256, 1, 1)
        for weight, inputs in [(block.project.weight, 16), (block.residual.layers[-1].weight, 32)]:
            assert 0.98 < weight.abs().max().item() * math.sqrt(inputs * 48) <= 1


def test_the_default_draws_the_published_number_of_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, randn = [], torch.randn

    def counted(*shape: int, **options: torch.device) -> Tensor:
        drawn.append(math.prod(shape))
        return randn(*shape, **options)

    hierarchy = Hierarchy(width=4, middle=2)
    monkeypatch.setattr(torch, "randn", counted)
    hierarchy.sample_prior(1, (32, 32))
    assert (len(drawn), sum(drawn)) == (48, 16 * (2 + 4 * 4**2 + 10 * 8**2 + 16 * 16**2 + 16 * 32**2))


def test_without_evidence_the_posterior_is_the_prior() -> None:
    """Of log-variance v against the prior's 0, it costs (softplus(-v) - sigmoid(-v)) / 2 nats a latent."""
    hierarchy, rates = Hierarchy(width=6, latents=2, middle=4, layers=LAYERS), []
    for raw in (0.0, 4.0, 20.0, 1e9):
        for block in blocks(hierarchy):
            nn.init.zeros_(block.inference.layers[-1].weight)
            nn.init.constant_(block.inference.layers[-1].bias[2:], raw)
        ratio = torch.tensor(-raw / (1 + raw / 20))
        rates.append(hierarchy(torch.randn(3, 6, 4, 4)).draw().rate)
        expected = (nn.functional.softplus(ratio) - ratio.sigmoid()) / 2 * 2 * (2 + 4 + 2 * 16)
        torch.testing.assert_close(rates[-1], expected.expand(3), rtol=1e-3, atol=1e-6)
    assert rates[-1].max() < 1e-6
    posterior = hierarchy(torch.randn(3, 6, 4, 4))
    torch.manual_seed(1)
    z = posterior.draw().z[0]
    torch.manual_seed(1)
    torch.testing.assert_close(z, hierarchy.sample_prior(3, (4, 4)))


def test_an_untrained_posterior_is_near_the_prior() -> None:
    posterior = Hierarchy(width=32, latents=4, middle=16, layers={1: 2, 4: 2, 8: 2})(torch.randn(8, 32, 8, 8))
    assert 0 < posterior.draw().rate.max() < 0.01 * 4 * (2 + 2 * 16 + 2 * 64)


def test_prior_samples_start_standard_normal() -> None:
    hierarchy = Hierarchy(width=6, latents=2, middle=4, layers={4: 1})
    (block,) = blocks(hierarchy)
    x, noise = torch.randn(3, 6, 4, 4), torch.randn(3, 2, 4, 4)
    torch.testing.assert_close(block.generate(x, noise), block.residual(x + block.project(noise)))


def test_partial_latents_know_only_the_coarser_activations() -> None:
    hierarchy = made()
    posterior = hierarchy(torch.randn(3, 6, 4, 4))
    other = hierarchy(torch.randn(3, 6, 4, 4))
    assert torch.equal(posterior.partial(4), posterior.mode)
    assert torch.equal(posterior.partial(0), other.partial(0))
    for known in (1, 2):
        mixed = hierarchy(torch.randn(3, 6, 4, 4))
        mixed.activations = {
            size: (posterior if size <= known else other).activations[size] for size in posterior.activations
        }
        assert torch.equal(mixed.partial(known), posterior.partial(known))
        assert not torch.allclose(mixed.partial(4), posterior.partial(4))
        assert not torch.allclose(posterior.partial(known), other.partial(known))
    torch.manual_seed(1)
    z = posterior.partial(0, temperature=1)
    torch.manual_seed(1)
    assert torch.equal(z, hierarchy.sample_prior(3, (4, 4)))


def test_the_mode_is_the_draw_without_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = made()(torch.randn(3, 6, 4, 4))
    mode = posterior.mode
    monkeypatch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(shape))
    torch.testing.assert_close(posterior.draw(2).z, mode.expand(2, *mode.shape))


def gradients(hierarchy: Hierarchy, features: Tensor) -> dict[str, Tensor | None]:
    torch.manual_seed(1)
    draw = hierarchy(features).draw(2)
    (draw.rate.sum() + (draw.z**2).sum() + draw.log_q.sum() - draw.log_p.sum()).backward()
    return {name: parameter.grad for name, parameter in hierarchy.named_parameters()}


def test_gradients_reach_every_parameter() -> None:
    for name, gradient in gradients(made(), torch.randn(3, 6, 4, 4)).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert (gradient != 0).any(), name


@pytest.mark.parametrize("autocast", [False, True])
def test_checkpointing_changes_no_bit(autocast: bool) -> None:
    features = torch.randn(3, 6, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        plain, checkpointed = (gradients(made(checkpointing=flag), features) for flag in (False, True))
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain)


def test_checkpointing_keeps_far_fewer_tensors_for_the_backward_pass() -> None:
    kept = []
    for checkpointing in (False, True):
        saved: list[Tensor] = []

        def pack(tensor: Tensor, saved: list[Tensor] = saved) -> Tensor:
            saved.append(tensor)
            return tensor

        hierarchy, features = made(checkpointing=checkpointing), torch.randn(3, 6, 4, 4)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            hierarchy(features).draw()
        kept.append(len(saved))
    assert kept[1] < kept[0] / 4


def test_a_copy_runs_its_own_blocks() -> None:
    hierarchy, features = made(checkpointing=True), torch.randn(3, 6, 4, 4)
    other = copy.deepcopy(hierarchy)
    torch.testing.assert_close(other(features).mode, hierarchy(features).mode)
    gradients(other, features)
    assert all(parameter.grad is None for parameter in hierarchy.parameters())


def test_float32_gaussians_and_finite_figures_under_autocast() -> None:
    hierarchy, features = made(), torch.randn(3, 6, 4, 4)
    assert all(part.dtype == torch.float32 for part in DiagonalGaussian.read(features.bfloat16()))
    torch.manual_seed(1)
    exact = hierarchy(features).draw(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(1)
        draw = hierarchy(features.bfloat16()).draw(2)
    for actual, wanted in zip(draw[1:4], exact[1:4], strict=True):
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, wanted, rtol=0.05, atol=0)


@pytest.mark.parametrize("size", [1e2, 1e4, 1e6])
def test_extreme_networks_stay_finite_and_keep_a_gradient(size: float) -> None:
    prior = DiagonalGaussian.read(size * torch.randn(8, 4, 3, 3))
    features = (size * torch.randn(8, 4, 3, 3)).requires_grad_()
    kl = prior.merged(features).kl_to_standard()
    kl.sum().backward()
    assert kl.isfinite().all()
    assert (kl >= 0).all()
    assert features.grad is not None
    assert features.grad.isfinite().all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": {1: 1, 5: 2, 28: 1}}, "5 does not divide 28; set layers to {1: .., 7: .., 14: .., 28: ..}"),
        ({"layers": {}}, "at least 1 block"),
        ({"layers": {0: 1, 4: 1}}, "at least 1 block"),
        ({"layers": {1: 0, 4: 1}}, "at least 1 block"),
        ({"encoder_blocks": {1: 1, 32: 1}}, "must have the resolutions of layers"),
        ({"encoder_blocks": {}}, "encoder_blocks is {}"),
        ({"latents": 0}, "latents must be at least 1"),
    ],
)
def test_settings_that_make_no_hierarchy_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(NarrowsError) as error:
        Hierarchy(**settings)  # type: ignore[arg-type]
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made: made(torch.zeros(1, 6, 28, 28)), "28x28: set layers to {1: .., 7: .., 14: .., 28: ..}"),
        (lambda made: made(torch.zeros(1, 6, 32, 32)), "32x32: set layers to {1: .., 4: .., 8: .., 16: .., 32: ..}"),
        (lambda made: made(torch.zeros(1, 6, 4, 8)), "4x8: the images must be square"),
        (lambda made: made(torch.zeros(1, 3, 4, 4)), "features must be [B, 6, H, W]"),
        (lambda made: made.sample_prior(1, (8, 8)), "8x8: set layers to {1: .., 4: .., 8: ..}"),
    ],
)
def test_images_that_do_not_fit_are_refused(call: Callable[[Hierarchy], object], message: str) -> None:
    with pytest.raises(NarrowsError) as error:
        call(made())
    assert message in str(error.value)


def test_order_of_the_layers_is_from_coarse_to_fine() -> None:
    assert list(Hierarchy(6, 2, 4, {4: 1, 1: 2}).layers) == [1, 4]


def test_stem_hierarchy_and_head_are_an_autoencoder() -> None:
    model = Autoencoder((1, 4, 4), Stem, made(), Head, Bernoulli)
    x = torch.randint(2, (3, 1, 4, 4)).float()
    posterior, evidence = model.evidence(Batch(x), lambda posterior: posterior.draw(5))
    assert model.grid == (4, 4)
    assert evidence.log_likelihood.shape == evidence.log_q.shape == evidence.log_p.shape == (5, 3)
    assert posterior.codes is None
    assert model.sample(2).shape == (2, 1, 4, 4)
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x)))


def test_a_recipe_names_the_layers() -> None:
    parts = {"encoder": "Stem", "decoder": "Head", "likelihood": "Bernoulli"}
    layers = {1: 2, 7: 1, 14: 1, 28: 1}
    bottleneck = {"class_path": "Hierarchy", "init_args": {"width": 6, "layers": layers}}
    arguments = {name: {"class_path": path} for name, path in parts.items()} | {"bottleneck": bottleneck}
    recipe = resolve(ModelRecipe, {"model": {"class_path": "Autoencoder", "init_args": arguments}})
    assert recipe.build().model((1, 28, 28)).bottleneck.layers == layers
