"""A model upon the codes of another: its bound, its bits and its draws, by enumeration on a tiny grid."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from narrows.bottlenecks import Categorical, Gaussian, ResidualQuantizer, VectorQuantizer
from narrows.bottlenecks.posterior import Bottleneck
from narrows.data import Batch, Spec
from narrows.errors import NarrowsError
from narrows.estimators import DAPS, Pathwise, StraightThroughGumbel
from narrows.likelihoods import Bernoulli
from narrows.models import Autoencoder, Stacked
from narrows.networks import (
    ConvDecoder,
    ConvEncoder,
    GlobalDecoder,
    GlobalEncoder,
    PerFrameDecoder,
    PerFrameEncoder,
    StridedDecoder,
    StridedEncoder,
)
from narrows.priors import Condition, FramePixelCNN, GatedPixelCNN, TransformerPrior, WaveNetPrior
from narrows.sampling import Sampling, draw

NETWORKS: dict[str, Any] = {
    "encoder": partial(GlobalEncoder, width=8, downsamplings=1, blocks=1),
    "context": partial(GlobalDecoder, width=8, upsamplings=1, blocks=1),
    "embedding": 4,
    "channels": 6,
}
PIXELCNN = partial(GatedPixelCNN, layers=2, width=8, first_kernel_size=3, head_width=8)
WAVENET = partial(WaveNetPrior, channels=8, skip_channels=8, stacks=1, layers=3)
FRAMES = partial(
    FramePixelCNN, frames=1, context_width=8, blocks=1, layers=1, width=8, first_kernel_size=3, head_width=8, hidden=0.0
)
QUANTIZER = partial(VectorQuantizer, 2, 2, codebooks=2)


def first(bottleneck: Bottleneck | None = None, size: int = 4) -> Autoencoder:
    """A model of binary images with (size / 2)^2 codes of 3."""
    encoder = partial(ConvEncoder, width=6, downsamplings=1, blocks=1)
    decoder = partial(ConvDecoder, width=6, upsamplings=1, blocks=1)
    model = Autoencoder((1, size, size), encoder, bottleneck or VectorQuantizer(2, 3), decoder, Bernoulli)
    return scattered(model)


def of_sequences(bottleneck: Bottleneck | None = None) -> Autoencoder:
    """A model of binary sequences of any length with a code of 3 for every 4 positions."""
    spec = Spec((1, 16), classes=("one",), variable=True)
    encoder = partial(StridedEncoder, width=6, strides=(2, 2), blocks=1)
    decoder = partial(StridedDecoder, width=6, strides=(2, 2), blocks=1)
    return scattered(Autoencoder(spec, encoder, bottleneck or VectorQuantizer(2, 3), decoder, Bernoulli))


def of_films() -> Autoencoder:
    """A model of binary clips with an action of two numbers for each frame, and 2x2 codes of 3 for each."""
    spec = Spec((1, 2, 4, 4), variable=True, channels=2)
    encoder = partial(PerFrameEncoder, encoder=partial(ConvEncoder, width=6, downsamplings=1, blocks=1))
    decoder = partial(PerFrameDecoder, decoder=partial(ConvDecoder, width=6, upsamplings=1, blocks=1))
    return scattered(Autoencoder(spec, encoder, VectorQuantizer(2, 3), decoder, Bernoulli))


def scattered(model: Any) -> Any:
    """The model as if trained: every weight has a say."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def stack(below: Autoencoder | None = None, bottleneck: Any = QUANTIZER, decoder: Any = PIXELCNN) -> Stacked:
    torch.manual_seed(0)
    below = below or first()
    model = Stacked(below.spec, bottleneck=bottleneck(), decoder=decoder, **NETWORKS)
    model.attach_to(below)
    return scattered(model)


def images(n: int, size: int = 4) -> Tensor:
    return torch.randint(2, (n, 1, size, size), generator=torch.Generator().manual_seed(1)).float()


def sequences(n: int, length: int) -> Tensor:
    return torch.randint(2, (n, 1, length), generator=torch.Generator().manual_seed(1)).float()


def films(n: int, frames: int) -> Tensor:
    return torch.randint(2, (n, 1, frames, 4, 4), generator=torch.Generator().manual_seed(1)).float()


def every(count: int, size: int) -> Tensor:
    """All codes of `count` positions, [size^count, count]."""
    return torch.cartesian_prod(*[torch.arange(size)] * count)


@torch.no_grad()
def enumerated(model: Stacked, x: Tensor) -> Tensor:
    """log p(x) = log sum_z sum_codes p(z) p(codes|z) p(x|codes) of images, [B]."""
    z, codes = every(2, 2).view(4, 1, 2), every(4, 3).view(81, 2, 2)
    features = model.context(model.bottleneck.embed(z).squeeze(2))
    given = Condition(features=features.repeat_interleave(81, 0))
    of_codes = model.codes_given_latents.log_prob(codes.repeat(4, 1, 1), given).view(4, 81)
    torch.testing.assert_close(of_codes.exp().sum(1), torch.ones(4))
    described = model.first.observe(model.first.bottleneck.embed(codes))
    of_data = torch.stack([described.log_prob(image.expand(81, 1, 4, 4)) for image in x], 1)
    return (of_codes.unsqueeze(2) + of_data - math.log(4)).flatten(0, 1).logsumexp(0)


def test_the_evidence_is_that_of_its_parts() -> None:
    model, x = stack(), images(5)
    posterior, evidence = model.evidence(Batch(x), Pathwise(samples=3).draw)
    codes, latents = model.first.encode(x), model.encode(x)
    features = model.context(model.bottleneck.embed(latents).squeeze(2))
    of_codes = model.codes_given_latents.log_prob(codes, Condition(features=features))
    _, below = model.first.evidence(Batch(x), lambda posterior: posterior.draw())
    assert latents.shape == (5, 1, 2)
    assert torch.equal(posterior.codes, latents)
    torch.testing.assert_close(evidence.terms["codes"], of_codes.detach().expand(3, -1))
    torch.testing.assert_close(evidence.terms["data_given_codes"], below.log_likelihood.expand(3, -1))
    torch.testing.assert_close(sum(evidence.terms.values()), evidence.log_likelihood.detach())
    torch.testing.assert_close(evidence.log_likelihood, model.log_likelihood(Batch(x), posterior.draw(3).z))
    torch.testing.assert_close(evidence.rate, torch.full((5,), 2 * math.log(2)))
    torch.testing.assert_close(evidence.statistics["bits_per_code"], -of_codes.sum() / (20 * math.log(2)))


@pytest.mark.parametrize("bottleneck", [QUANTIZER, partial(Categorical, dim=2, codebook_size=2, codebooks=2)])
def test_the_bound_is_below_the_likelihood_by_enumeration(bottleneck: Any) -> None:
    model, x = stack(bottleneck=bottleneck), images(4)
    torch.manual_seed(0)
    with torch.no_grad():
        _, evidence = model.evidence(Batch(x), lambda posterior: posterior.draw(200))
    assert (evidence.log_likelihood.mean(0) - evidence.rate < enumerated(model, x)).all()


def test_a_sampled_bottleneck_has_the_evidence_of_all_its_latents() -> None:
    """The mean over draws is the sum over the four latents, weighted by q."""
    model, x = stack(bottleneck=partial(Categorical, dim=2, codebook_size=2, codebooks=2)), images(2)
    z = every(2, 2).view(4, 1, 1, 2).expand(4, 2, 1, 2)
    torch.manual_seed(0)
    with torch.no_grad():
        posterior = model.posterior(x)
        q = posterior.log_prob(z).exp()  # type: ignore[attr-defined]
        each = torch.stack([model.bottleneck.embed(codes) for codes in z])  # type: ignore[attr-defined]
        wanted = (q * model.log_likelihood(Batch(x), each)).sum(0)
        _, evidence = model.evidence(Batch(x), lambda posterior: posterior.draw(4000))
    torch.testing.assert_close(q.sum(0), torch.ones(2))
    error = evidence.log_likelihood.std(0) / math.sqrt(4000)
    assert ((evidence.log_likelihood.mean(0) - wanted).abs() < 4 * error).all()


@pytest.mark.parametrize(
    ("bottleneck", "estimator"),
    [
        (QUANTIZER, Pathwise()),
        (partial(Gaussian, channels=3), Pathwise()),
        (partial(Categorical, dim=2, codebook_size=2, codebooks=2), StraightThroughGumbel()),
        (partial(Categorical, dim=2, codebook_size=2, codebooks=2), DAPS()),
    ],
)
def test_training_reaches_the_second_model_alone(bottleneck: Any, estimator: Any) -> None:
    model, x = stack(bottleneck=bottleneck), images(6)
    before = {name: value.clone() for name, value in model.first.state_dict().items()}
    model.train()
    assert model.bottleneck.training
    assert not any(module.training for module in model.first.modules())
    posterior, evidence = model.evidence(Batch(x), estimator.draw)
    (estimator(evidence).sum() + sum(posterior.losses.values())).backward()
    learnt = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert not any(name.startswith("first_stage.") for name in learnt)
    for part in ("embeddings", "encoder", "context", "decoder"):
        gradients = [parameter.grad for name, parameter in model.named_parameters() if name.startswith(f"{part}.")]
        assert any(gradient is not None and gradient.any() for gradient in gradients), part
    for name, value in model.first.state_dict().items():
        assert torch.equal(value, before[name])


def test_reconstructions_are_decoded_codes_and_draws_differ() -> None:
    model, x = stack(), images(6)
    codes = model.encode(x)
    again = model.reconstruct(x, sampling=Sampling(seed=3))
    torch.testing.assert_close(model.decode(codes, sampling=Sampling(seed=3)), again)
    assert not torch.equal(model.decode(codes, sampling=Sampling(seed=4)), again)
    both = model.decode_all(list(codes), sampling=Sampling(seed=3))
    torch.testing.assert_close(torch.stack(both), again)
    torch.testing.assert_close(model.decode(codes[:2], sampling=Sampling(seed=3)), again[:2])
    versions = model.versions(x)
    torch.testing.assert_close(versions["first stage"], model.first.reconstruct(x))
    assert not torch.equal(versions["draw 1"], versions["draw 2"])
    path = model.interpolate(x[:2], x[2:4], 3, sampling=Sampling(seed=0))
    assert path.shape == (2, 3, 1, 4, 4)
    assert model.sample(3, sampling=Sampling(seed=0)).shape == (3, 1, 4, 4)


@pytest.mark.parametrize("codebooks", [1, 2])
def test_draws_by_caches_equal_draws_by_full_forwards(codebooks: int) -> None:
    below = first(ResidualQuantizer(partial(VectorQuantizer, 2, 3), codebooks))
    model, x = stack(below), images(3)
    prior, z = model.codes_given_latents, model.posterior(x).mode
    given = Condition(features=model.context(z.squeeze(2)))
    uniforms = torch.rand(3, prior.length, generator=torch.Generator().manual_seed(5))
    codes = torch.zeros(3, prior.length, dtype=torch.long)
    with torch.no_grad():
        for n in range(prior.length):
            logits = prior.logits(codes.view(3, *prior.code_shape), given).flatten(1, -2)[:, n]
            codes[:, n] = draw(logits, uniforms[:, n : n + 1])
    wanted = model.first.decode(codes.view(3, *prior.code_shape))
    torch.testing.assert_close(model.decode_latents(z, sampling=Sampling(seed=5)), wanted)


def test_windows_of_a_sequence_are_independent_given_their_latents() -> None:
    model = stack(of_sequences(), decoder=WAVENET)
    x = sequences(2, 48)
    assert (model.hop, model.grid, model.codes_given_latents.grid) == (16, (1,), (4,))
    codes, latents = model.first.encode(x), model.encode(x)
    assert latents.shape == (2, 3, 2)
    _, evidence = model.evidence(Batch(x), Pathwise().draw)
    wanted = torch.zeros(2)
    for window in range(3):
        z = model.bottleneck.embed(latents[:, window : window + 1]).squeeze(2)
        own = codes[:, 4 * window : 4 * window + 4]
        wanted += model.codes_given_latents.log_prob(own, Condition(features=model.context(z)))
    torch.testing.assert_close(evidence.terms["codes"][0], wanted.detach())
    torch.testing.assert_close(evidence.rate, torch.full((2,), 3 * 2 * math.log(2)))


@pytest.mark.parametrize("length", [1, 15, 18, 32])
def test_sequences_of_any_length(length: int) -> None:
    """Padding counts nowhere: neither in latents nor in bits."""
    model, x = stack(of_sequences(), decoder=WAVENET), sequences(2, length)
    assert model.encode(x).shape == (2, -(-length // 16), 2)
    assert model.reconstruct(x).shape == x.shape
    _, alone = model.evidence(Batch(x), Pathwise().draw)
    padded = torch.cat([x, torch.ones(2, 1, 64 - length)], 2)
    mask = (torch.arange(64) < length).expand(2, -1)
    posterior, together = model.evidence(Batch(padded, mask), Pathwise().draw)
    assert posterior.codes is not None
    for name in ("log_likelihood", "log_p", "rate"):
        torch.testing.assert_close(getattr(together, name), getattr(alone, name))
    assert torch.equal(posterior.codes[:, : -(-length // 16)], model.encode(x))


def test_windows_of_frames_have_global_latents() -> None:
    """Clips of two windows of two frames: codes of all frames of a window are drawn given its latents."""
    model, x = stack(of_films(), decoder=FRAMES), films(3, 4)
    assert (model.hop, model.grid, model.codes_given_latents.grid) == (2, (1,), (2, 2, 2))
    assert (model.codes.channels, model.codes_given_latents.channels) == (0, 6)
    codes, latents = model.first.encode(x), model.encode(x)
    assert latents.shape == (3, 2, 2)
    _, evidence = model.evidence(Batch(x), Pathwise().draw)
    wanted = torch.zeros(3)
    for window in range(2):
        features = model.context(model.bottleneck.embed(latents[:, window : window + 1]).squeeze(2))
        assert features.shape == (3, 6, 2, 2, 2)
        own = codes[:, 2 * window : 2 * window + 2]
        wanted += model.codes_given_latents.log_prob(own, Condition(features=features))
    torch.testing.assert_close(evidence.terms["codes"][0], wanted.detach())
    torch.testing.assert_close(evidence.rate, torch.full((3,), 2 * 2 * math.log(2)))
    grid = list(every(4, 3).view(81, 1, 2, 2).unbind())
    both = torch.stack([torch.cat([one, other]) for one in grid[:9] for other in grid])
    features = features[:1].expand(len(both), -1, -1, -1, -1)
    # The frames that may follow one of nine: their probabilities sum to that of the first frame.
    first_frame = model.codes_given_latents.logits(both[::81], Condition(features=features[::81]))[:, :1]
    given = first_frame.log_softmax(-1).gather(-1, both[::81, :1].view(9, 1, 2, 2, 1, 1)).flatten(1).sum(1)
    of_both = model.codes_given_latents.log_prob(both, Condition(features=features)).view(9, 81)
    torch.testing.assert_close(of_both.logsumexp(1), given)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_clips_of_any_length(frames: int) -> None:
    model, x = stack(of_films(), decoder=FRAMES), films(2, frames)
    assert model.encode(x).shape == (2, -(-frames // 2), 2)
    assert model.reconstruct(x).shape == x.shape
    assert {own.shape for own in model.versions(x).values()} == {x.shape}
    _, alone = model.evidence(Batch(x), Pathwise().draw)
    padded = torch.cat([x, torch.ones(2, 1, 6 - frames, 4, 4)], 2)
    mask = (torch.arange(6) < frames)[:, None, None].expand(2, -1, 4, 4)
    _, together = model.evidence(Batch(padded, mask), Pathwise().draw)
    for name in ("log_likelihood", "log_p", "rate"):
        torch.testing.assert_close(getattr(together, name), getattr(alone, name))


def test_sequences_of_different_lengths_are_decoded_together() -> None:
    model = stack(of_sequences(), decoder=partial(TransformerPrior, width=8, layers=1, heads=2))
    codes = [model.encode(sequences(1, length))[0] for length in (20, 16, 40)]
    made = model.decode_all(codes, sampling=Sampling(seed=1))
    assert [x.shape[1] for x in made] == [32, 16, 48]
    for count in (1, 2):  # the first ones do not depend on those that follow
        for x, y in zip(model.decode_all(codes[:count], sampling=Sampling(seed=1)), made, strict=False):
            torch.testing.assert_close(x, y)


def test_codes_of_a_first_model_that_samples_them_are_the_most_probable() -> None:
    below = first(Categorical(dim=2, codebook_size=3))
    model, x = stack(below), images(4)
    _, evidence = model.evidence(Batch(x), Pathwise().draw)
    wanted = below.observe(below.bottleneck.embed(below.encode(x))).log_prob(x)  # type: ignore[operator]
    torch.testing.assert_close(evidence.terms["data_given_codes"][0], wanted)


def test_a_damaged_example_is_read_and_the_whole_one_described() -> None:
    model, x = stack(of_sequences(), decoder=WAVENET), sequences(2, 18)
    damaged = x.roll(5, 2)
    posterior, evidence = model.evidence(Batch(x, damaged=damaged), Pathwise().draw)
    assert posterior.codes is not None
    assert torch.equal(posterior.codes, model.encode(damaged))
    wanted = model.log_likelihood(Batch(x), model.posterior(damaged).mode.unsqueeze(0))
    torch.testing.assert_close(evidence.log_likelihood, wanted)


def test_latents_of_other_examples_cost_bits() -> None:
    """A decoder that copies a latent into every code: with another image's latents the codes are improbable."""
    model, x = stack(), images(2)
    codes = model.first.encode(x)
    bits = {name: total / count for name, (total, count) in model.ratios(Batch(x), model.posterior(x), None).items()}
    with torch.no_grad():
        features = model.context(model.posterior(x).mode.squeeze(2))
        own, other = (
            -model.codes_given_latents.log_prob(codes, Condition(features=part)).sum() / (8 * math.log(2))
            for part in (features, features.flip(0))
        )
    torch.testing.assert_close(bits["bits_per_code"], own)
    torch.testing.assert_close(bits["bits_per_code_swapped"], other)
    alone = model.ratios(Batch(x[:1]), model.posterior(x[:1]), None)
    assert set(alone) == {"bits_per_code"}
    after = model.ratios(Batch(x[:1]), model.posterior(x[:1]), model.posterior(x[1:]).mode)
    before = model.ratios(Batch(x[1:]), model.posterior(x[1:]), model.posterior(x[:1]).mode)
    both = after["bits_per_code_swapped"][0] + before["bits_per_code_swapped"][0]
    torch.testing.assert_close(both / 8, other)


def test_a_first_stage_without_codes_or_of_other_data_is_refused() -> None:
    def refused(below: Autoencoder, match: str, spec: Spec | None = None) -> None:
        model = Stacked(spec or Spec((1, 4, 4)), bottleneck=QUANTIZER(), decoder=PIXELCNN, **NETWORKS)
        with pytest.raises(NarrowsError, match=match):
            model.attach_to(below)

    refused(first(Gaussian(channels=2)), "of a Gaussian, are continuous")
    refused(first(size=8), r"examples of 1x8x8 .* these are 1x4x4")
    refused(first(), "models tensors, these data are pictures", Spec((1, 4, 4), modality="pictures"))
    refused(first(), "whose bounds are .* those of these data are", Spec((1, 4, 4), bounds=(-1.0, 1.0)))
    refused(
        of_sequences(),
        "data.window is 18, .* multiple of 4, .* set it to 20",
        Spec((1, 18), classes=("one",), variable=True),
    )
    refused(of_sequences(), "whose rate are null, those of these data are 8.0", Spec((1, 16), variable=True, rate=8.0))
    with pytest.raises(NarrowsError, match="--on RUN"):
        Stacked((1, 4, 4), bottleneck=QUANTIZER(), decoder=PIXELCNN, **NETWORKS).posterior(images(1))
    with pytest.raises(NarrowsError, match="draws the codes"):
        stack().observe(torch.zeros(1, 4, 1))
    with pytest.raises(NarrowsError, match="only a Stacked model decodes by one"):
        Autoencoder((1, 4, 4), ConvEncoder, VectorQuantizer(2, 3), PIXELCNN, Bernoulli)  # type: ignore[arg-type]
