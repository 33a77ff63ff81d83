import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from narrows.bottlenecks import Bottleneck, Draw, Gaussian, ResidualQuantizer, VectorQuantizer
from narrows.config import ModelRecipe, resolve
from narrows.data import Batch, Spec
from narrows.errors import NarrowsError
from narrows.estimators import Pathwise
from narrows.likelihoods import (
    Categorical,
    DiscretizedLogistic,
    Likelihood,
    MuLawCategorical,
    mu_law_decode,
    mu_law_encode,
)
from narrows.models import Autoencoder
from narrows.networks import ConvEncoder, StridedDecoder, StridedEncoder, WaveNetDecoder
from narrows.pretrained import load, save_autoencoder
from narrows.priors import WaveNetPrior, sample
from narrows.sampling import Sampling
from narrows.training.tasks import AutoencoderTask

HOP, LEVELS, CODES, WINDOW = 6, 16, 8, 24
WAVENET = partial(WaveNetDecoder, local_channels=4, channels=6, skip_channels=16, stacks=2, layers=3)
STRIDED = partial(StridedDecoder, width=8, strides=(3, 2), blocks=1)
LIKELIHOOD = partial(MuLawCategorical, levels=LEVELS)
DECODERS = {"wavenet": WAVENET, "strided": STRIDED}


def quantizer(codebooks: int = 1) -> VectorQuantizer:
    """With vectors as far from each other as features are."""
    made = VectorQuantizer(dim=3, codebook_size=CODES, codebooks=codebooks)
    made.codebook.vectors.normal_()
    return made


BOTTLENECKS = {
    "one code": quantizer,
    "two codes": partial(quantizer, 2),
    "continuous": lambda: Gaussian(channels=3),
}


def model(
    decoder: Callable[..., torch.nn.Module] = WAVENET,
    bottleneck: Callable[[], Bottleneck] = quantizer,
    speakers: tuple[str, ...] = ("al", "bo", "cy"),
    window: int = WINDOW,
    likelihood: Callable[[int], Likelihood] = LIKELIHOOD,
) -> Autoencoder:
    torch.manual_seed(0)
    encoder = partial(StridedEncoder, width=6, strides=(2, 3), blocks=1)
    return Autoencoder(
        Spec((1, window), "sound", speakers, (-1.0, 1.0), True, 2000), encoder, bottleneck(), decoder, likelihood
    ).eval()


def sounds(samples: int, batch: int = 3) -> Tensor:
    return 2 * torch.rand(batch, 1, samples, generator=torch.Generator().manual_seed(1)) - 1


def latents(positions: int, batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, positions, generator=torch.Generator().manual_seed(2))


def codes(*shape: int) -> Tensor:
    return torch.randint(CODES, shape, generator=torch.Generator().manual_seed(3))


def seeded(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(sounds: int, samples: int, generator: torch.Generator) -> Tensor:
    """The random numbers by which sounds are drawn, each sound's from a generator of its own."""
    seeds = torch.randint(2**62, (sounds,), generator=generator).tolist()
    return torch.stack([torch.rand(samples, generator=seeded(seed)) for seed in seeds])


SPOKEN = torch.tensor([2, 0, -1])


@torch.no_grad()
def plainly(sound: Autoencoder, z: Tensor, speaker: Tensor, uniforms: Tensor, temperature: float = 1.0) -> list[int]:
    """The levels of one sound, of latents z [C, N]: the decoder runs anew on all samples so far for every next one."""
    levels = torch.zeros(1, 1, z.shape[1] * HOP, dtype=torch.long)
    for t, uniform in enumerate(uniforms.tolist()):
        logits = sound.decoder(z.unsqueeze(0), levels, speaker.view(1))[0, :, t]
        below = (logits / temperature).softmax(0).cumsum(0)
        levels[0, 0, t] = (below <= uniform * below[-1]).sum()
    return levels[0, 0, : len(uniforms)].tolist()


def levels_of(sound: Tensor) -> list[int]:
    return mu_law_encode(sound, LEVELS).flatten().tolist()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("name", BOTTLENECKS)
def test_sound_is_drawn_as_by_a_full_pass_for_each_sample(name: str, temperature: float) -> None:
    """Sample for sample, each sound by itself, whatever the bottleneck."""
    spoken = model(bottleneck=BOTTLENECKS[name])
    given = {"one code": codes(3, 4), "two codes": codes(3, 4, 2), "continuous": latents(4)}[name]
    z = given if name == "continuous" else spoken.bottleneck.embed(given)
    seen = []
    drawn = spoken.decode(given, SPOKEN, Sampling(temperature, seed=seeded()), lambda *done: seen.append(done))
    assert drawn.shape == (3, 1, 4 * HOP)
    assert seen == [(done, 4 * HOP) for done in range(1, 4 * HOP + 1)]
    uniforms = numbers(3, 4 * HOP, seeded())
    for each in range(3):
        assert levels_of(drawn[each]) == plainly(spoken, z[each], SPOKEN[each], uniforms[each], temperature)
    assert len(set(levels_of(drawn))) > 5


def test_a_reconstruction_is_drawn_from_the_codes_of_the_sound() -> None:
    spoken, x = model(), sounds(4 * HOP - 1)
    drawn = spoken.reconstruct(x, SPOKEN, Sampling(seed=seeded()))
    assert drawn.shape == x.shape
    z = spoken.bottleneck.embed(spoken.encode(x))
    uniforms = numbers(3, 4 * HOP, seeded())
    for each in range(3):
        assert levels_of(drawn[each]) == plainly(spoken, z[each], SPOKEN[each], uniforms[each, :-1])
    assert torch.equal(drawn, spoken.decode(spoken.encode(x), SPOKEN, Sampling(seed=seeded()))[..., :-1])


@pytest.mark.parametrize("labels", [None, SPOKEN])
def test_a_sample_is_drawn_from_codes_of_the_fixed_prior(labels: Tensor | None) -> None:
    spoken = model()
    torch.manual_seed(5)
    drawn = spoken.sample(3, labels, Sampling(seed=seeded()))
    torch.manual_seed(5)
    z, generator = spoken.bottleneck.sample_prior(3, (WINDOW // HOP,)), seeded()
    speakers = torch.randint(3, (3,), generator=generator) if labels is None else labels
    uniforms = numbers(3, WINDOW, generator)
    for each in range(3):
        assert levels_of(drawn[each]) == plainly(spoken, z[each], speakers[each], uniforms[each])


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_sample_is_drawn_from_codes_of_a_prior_over_windows_of_any_length(decoder: str) -> None:
    spoken = model(DECODERS[decoder], BOTTLENECKS["two codes"])
    spec = spoken.codes_of((7,))
    assert (spec.grid, spec.codebooks, spec.codebook_size, spec.classes) == ((7,), 2, CODES, 3)
    assert spoken.takes(spec)
    assert not model(DECODERS[decoder]).takes(spec)
    assert not model(DECODERS[decoder], BOTTLENECKS["two codes"], speakers=("al",)).takes(spec)
    assert spoken.lacks_prior
    prior = WaveNetPrior(spec, channels=4, skip_channels=8, stacks=1, layers=3).eval()
    spoken.prior, labels = prior, torch.tensor([2, 0, 1])
    generator = seeded()
    drawn = sample(prior, 3, labels, Sampling(0.9, 5, 0.8, generator))
    expected = spoken.decode(drawn, labels, Sampling(seed=generator))
    assert torch.equal(spoken.sample(3, labels, Sampling(0.9, 5, 0.8, seeded())), expected)
    assert expected.shape == (3, 1, 7 * HOP)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_first_sounds_are_the_same_however_many_follow(decoder: str) -> None:
    spoken, given = model(DECODERS[decoder]), codes(3, 4)
    three = spoken.decode(given, SPOKEN, Sampling(seed=seeded()))
    torch.testing.assert_close(spoken.decode(given[:2], SPOKEN[:2], Sampling(seed=seeded())), three[:2])
    assert not torch.equal(spoken.decode(given[:2], SPOKEN[:2].flip(0), Sampling(seed=seeded())), three[:2])


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_sounds_of_different_lengths_are_drawn_as_each_alone(name: str) -> None:
    spoken, lengths = model(bottleneck=BOTTLENECKS[name]), [2, 5, 3]
    make = {"one code": codes, "two codes": lambda n: codes(n, 2), "continuous": lambda n: latents(n, 1)[0]}[name]
    given = [make(length) for length in lengths]
    drawn = spoken.decode_all(given, SPOKEN, Sampling(0.7, seed=seeded()))
    assert [sound.shape for sound in drawn] == [(1, length * HOP) for length in lengths]
    uniforms = numbers(3, 5 * HOP, seeded())
    for part, speaker, sound, uniform in zip(given, SPOKEN, drawn, uniforms, strict=True):
        z = part if name == "continuous" else spoken.bottleneck.embed(part.unsqueeze(0))[0]
        assert levels_of(sound) == plainly(spoken, z, speaker, uniform[: sound.shape[1]], 0.7)
    assert torch.equal(drawn[0], spoken.decode(given[0].unsqueeze(0), SPOKEN[:1], Sampling(0.7, seed=seeded()))[0])


@pytest.mark.parametrize("name", BOTTLENECKS)
def test_a_decoder_of_all_samples_at_once_takes_sounds_of_different_lengths_one_by_one(name: str) -> None:
    spoken = model(STRIDED, BOTTLENECKS[name])
    make = {"one code": codes, "two codes": lambda n: codes(n, 2), "continuous": lambda n: latents(n, 1)[0]}[name]
    given = [make(length) for length in (2, 5, 3)]
    decoded = spoken.decode_all(given, SPOKEN)
    for part, speaker, sound in zip(given, SPOKEN, decoded, strict=True):
        assert torch.equal(sound, spoken.decode(part.unsqueeze(0), speaker.view(1))[0])
    assert not torch.equal(decoded[0], spoken.decode_all(given, SPOKEN.flip(0))[0])


@pytest.mark.parametrize("decoder", DECODERS)
def test_no_sound_is_drawn_of_nothing(decoder: str) -> None:
    assert model(DECODERS[decoder]).decode_all([], SPOKEN[:0]) == []


def test_what_is_decoded_at_once_is_the_mean() -> None:
    spoken, given = model(STRIDED), codes(3, 4)
    probabilities = spoken.decoder(spoken.bottleneck.embed(given), SPOKEN).softmax(1)
    expected = torch.einsum("blt,l->bt", probabilities, mu_law_decode(torch.arange(LEVELS), LEVELS))
    torch.testing.assert_close(spoken.decode(given, SPOKEN)[:, 0], expected)


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("samples", [1, 5, 6, 7, 24, 37])
def test_sound_of_any_length(decoder: str, samples: int) -> None:
    """T samples are ceil(T / hop) codes, those of the sound with silence behind it, and come back as T samples."""
    spoken, x = model(DECODERS[decoder]), sounds(samples)
    found = spoken.encode(x)
    assert (found.shape, found.dtype) == ((3, math.ceil(samples / HOP)), torch.int64)
    filled = torch.cat([x, torch.zeros(3, 1, found.shape[1] * HOP - samples)], 2)
    assert torch.equal(spoken.encode(filled), found)
    assert spoken.decode(found, SPOKEN).shape == filled.shape
    assert spoken.reconstruct(x, SPOKEN).shape == x.shape
    assert len(spoken.encode(sounds(200)).unique()) > 3


@pytest.mark.parametrize("bottleneck", BOTTLENECKS.values(), ids=BOTTLENECKS)
def test_an_interpolation_begins_and_ends_with_the_reconstructions(bottleneck: Callable[[], Bottleneck]) -> None:
    spoken, start, end = model(STRIDED, bottleneck), sounds(20), sounds(20).flip(2)
    path = spoken.interpolate(start, end, 5, SPOKEN)
    assert path.shape == (3, 5, 1, 20)
    torch.testing.assert_close(path[:, 0], spoken.reconstruct(start, SPOKEN))
    torch.testing.assert_close(path[:, -1], spoken.reconstruct(end, SPOKEN))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 2, 64), r"must have the shape \[B, 1, T\]"),
        (torch.full((1, 1, 64), 1.5), r"must be in \[-1, 1\], but it ranges from 1.5"),
        (torch.full((1, 1, 64), float("nan")), "look for NaN"),
        (torch.zeros(1, 1, 64, dtype=torch.int16), "not torch.int16"),
    ],
)
def test_what_is_no_sound_within_full_scale_is_refused(x: Tensor, message: str) -> None:
    spoken = model()
    for method in (spoken.encode, spoken.reconstruct):
        with pytest.raises(NarrowsError, match=message):
            method(x)


def real(lengths: list[int], samples: int) -> Tensor:
    """Which samples count, where so many of each sound do."""
    return torch.arange(samples) < torch.tensor(lengths).unsqueeze(1)


def by_hand(spoken: Autoencoder, z: Tensor, x: Tensor, speaker: int) -> float:
    """log p(x|z, s) of one sound x [T] and its latents [C, N], level by level; noise follows it in the last hop."""
    levels = mu_law_encode(x, LEVELS).tolist()
    filled = torch.tensor([[levels + codes(z.shape[1] * HOP - len(levels)).tolist()]])
    told = torch.tensor([speaker])
    wavenet = isinstance(spoken.decoder, WaveNetDecoder)
    logits = (spoken.decoder(z[None], filled, told) if wavenet else spoken.decoder(z[None], told))[0].double()
    return sum((logits[level, t] - logits[:, t].exp().sum().log()).item() for t, level in enumerate(levels))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("samples", [WINDOW, WINDOW - 5])
def test_the_evidence_counts_the_samples_that_are_real(decoder: str, samples: int) -> None:
    spoken, x, lengths = model(DECODERS[decoder]), sounds(samples), [samples, 13, 1]
    batch = Batch(x, real(lengths, samples), SPOKEN)
    posterior, evidence = spoken.evidence(batch, lambda posterior: posterior.draw())
    alone = [x[each : each + 1, :, :length] for each, length in enumerate(lengths)]
    expected = [
        by_hand(spoken, spoken.bottleneck.embed(spoken.encode(sound))[0], sound[0, 0], int(speaker))
        for sound, speaker in zip(alone, SPOKEN, strict=True)
    ]
    torch.testing.assert_close(evidence.log_likelihood, torch.tensor([expected]))
    counted = torch.tensor([4, 3, 1])  # latents of 6 samples that have a real one
    torch.testing.assert_close(evidence.rate, counted * math.log(CODES))
    for sound, found, count in zip(alone, posterior.codes, counted, strict=True):
        assert torch.equal(found[:count], spoken.encode(sound)[0])
    z = spoken.bottleneck.embed(spoken.encode(x))
    everything = [by_hand(spoken, z[each], x[each, 0], int(SPOKEN[each])) for each in range(3)]
    _, evidence = spoken.evidence(Batch(x, None, SPOKEN), lambda posterior: posterior.draw())
    torch.testing.assert_close(evidence.log_likelihood, torch.tensor([everything]))


@pytest.mark.parametrize("decoder", DECODERS)
def test_what_follows_the_real_samples_cannot_change_their_log_likelihood(decoder: str) -> None:
    """Given the latents, and exactly."""
    spoken, x, mask = model(DECODERS[decoder]), sounds(WINDOW), real([23, 13, 1], WINDOW)
    drawn = spoken.posterior(x).draw()
    other = x.where(mask.unsqueeze(1), x.flip(2))
    assert not torch.equal(x, other)
    found = [spoken.evidence(Batch(given, mask, SPOKEN), lambda _: drawn)[1].log_likelihood for given in (x, other)]
    assert torch.equal(*found)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_evidence_of_many_draws_is_that_of_each_alone(decoder: str) -> None:
    spoken, x = model(DECODERS[decoder], BOTTLENECKS["continuous"]), sounds(WINDOW - 2)
    batch = Batch(x, real([22, 13, 1], WINDOW - 2), SPOKEN)
    torch.manual_seed(2)
    draws = spoken.posterior(x).draw(4)
    found = spoken.evidence(batch, lambda _: draws)[1].log_likelihood
    assert found.shape == (4, 3)
    for each, parts in enumerate(zip(*draws[:3], strict=True)):
        alone = Draw(*(part.unsqueeze(0) for part in parts), draws.rate)
        expected = spoken.evidence(batch, lambda _, alone=alone: alone)[1].log_likelihood
        torch.testing.assert_close(found[each], expected[0])


@pytest.mark.parametrize("decoder", [WAVENET, partial(STRIDED, strides=(2, 2))], ids=DECODERS)
@pytest.mark.parametrize("speaker", [1, -1])
def test_the_probabilities_of_all_sounds_of_a_code_sum_to_one(
    decoder: Callable[..., torch.nn.Module], speaker: int
) -> None:
    torch.manual_seed(0)
    spoken = Autoencoder(
        Spec((1, 4), "sound", ("al", "bo"), (-1.0, 1.0), True, 2000),
        partial(StridedEncoder, width=4, strides=(2, 2), blocks=1),
        quantizer(),
        decoder,
        partial(MuLawCategorical, levels=4),
    ).eval()
    every = torch.cartesian_prod(*[torch.arange(4)] * 4)
    assert len(every) == 4**4
    x = mu_law_decode(every, 4).unsqueeze(1)
    z = spoken.bottleneck.embed(torch.tensor([[5]])).expand(len(x), -1, -1)
    log_prob = spoken.observe(z, x, torch.full((len(x),), speaker)).log_prob(x)
    assert log_prob.logsumexp(0).item() == pytest.approx(0, abs=1e-5)
    assert log_prob.std() > 0.1
    if isinstance(spoken.decoder, WaveNetDecoder):  # what is drawn follows them: the first two levels of 4000 sounds
        drawn = spoken.decode(torch.full((4000, 1), 5), torch.full((4000,), speaker), Sampling(seed=seeded()))
        found = mu_law_encode(drawn, 4)[:, 0, :2] @ torch.tensor([4, 1])
        p = log_prob.exp().view(16, 16).sum(1)
        frequency = torch.bincount(found, minlength=16) / 4000
        assert ((frequency - p).abs() <= 4 * (p * (1 - p) / 4000).sqrt()).all()


LENGTHS = [WINDOW, 13, 1]


def batch() -> Batch:
    """Windows as training reads them, with zeros behind what is real."""
    mask = real(LENGTHS, WINDOW)
    return Batch(sounds(WINDOW).where(mask.unsqueeze(1), 0), mask, SPOKEN)


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_loss_is_that_of_the_real_samples(decoder: str) -> None:
    """Nats of all sounds over the samples of all, and the commitment."""
    spoken = model(DECODERS[decoder])
    given = batch()
    x, speakers = given.x, given.condition
    loss, figures = AutoencoderTask(spoken, Pathwise(), Batch).eval()(*given)
    alone = [x[each : each + 1, :, :length] for each, length in enumerate(LENGTHS)]
    z = [spoken.bottleneck.embed(spoken.encode(sound)) for sound in alone]
    rate = (4 + 3 + 1) * math.log(CODES)
    distortion = -sum(
        by_hand(spoken, z[each][0], alone[each][0, 0], int(speakers[each])) for each in range(len(LENGTHS))
    )
    squares = [(spoken.features(sound) - near).square().sum(1) for sound, near in zip(alone, z, strict=True)]
    commitment = 0.25 * torch.cat(squares, 1).mean().item()
    assert loss.item() == pytest.approx((rate + distortion) / 38 + commitment, rel=1e-5)
    assert figures["commitment"].item() == pytest.approx(commitment, rel=1e-5)
    assert figures["rate_bits_per_dim"].item() == pytest.approx(rate / 38 / math.log(2), rel=1e-5)
    assert figures["distortion_bits_per_dim"].item() == pytest.approx(distortion / 38 / math.log(2), rel=1e-5)
    assert figures["bits_per_dim"].item() == pytest.approx((rate + distortion) / 38 / math.log(2), rel=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_all_parameters_learn(decoder: str) -> None:
    spoken = model(DECODERS[decoder])
    task = AutoencoderTask(spoken, Pathwise(), Batch).train()
    task(*batch())[0].backward()
    for name, parameter in spoken.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name
    voice = spoken.decoder.network.whole if decoder == "wavenet" else spoken.decoder.class_embedding
    # Those who speak learn; al and cy do, bo and one unknown do not.
    assert voice.weight.grad.any(0).tolist() == [True, False, True]
    spoken.zero_grad()
    spoken.posterior(sounds(WINDOW)).losses["commitment"].backward()
    of_commitment = [parameter.grad.clone() for parameter in spoken.encoder.parameters()]
    spoken.zero_grad()
    task(*batch())[0].backward()
    assert any(not torch.equal(p.grad, one) for p, one in zip(spoken.encoder.parameters(), of_commitment, strict=True))


@pytest.mark.parametrize("decoder", DECODERS)
def test_who_speaks_must_be_said_where_there_are_several(decoder: str) -> None:
    spoken, x, given = model(DECODERS[decoder]), sounds(WINDOW), codes(3, 4)
    calls: list[Callable[[Tensor | None], object]] = [
        lambda speakers: spoken.decode(given, speakers),
        lambda speakers: spoken.decode_all(list(given), speakers),
        lambda speakers: spoken.reconstruct(x, speakers),
        lambda speakers: spoken.observe(latents(4), x, speakers),
        lambda speakers: spoken.interpolate(x, x, 2, speakers),
        lambda speakers: spoken.evidence(Batch(x, None, speakers), lambda posterior: posterior.draw()),
    ]
    for call in calls:
        with pytest.raises(NarrowsError, match="choose which of the 3 classes to decode: al, bo, cy"):
            call(None)
        for wrong in (torch.tensor([0, 1]), torch.tensor([[0], [1], [2]]), torch.tensor(0)):
            with pytest.raises(NarrowsError, match=r"classes must have the shape \[3\], one per example, not \["):
                call(wrong)
        call(SPOKEN)
    for call in calls[:-1]:  # evidence trusts the numbers of its batches, for a device would have to wait
        for wrong in (torch.tensor([0, 3, 1]), torch.tensor([0, -2, 1])):
            with pytest.raises(NarrowsError, match=r"numbers below 3, or -1 if unknown, not \[0, (3|-2), 1\]"):
                call(wrong)
    one = model(DECODERS[decoder], speakers=("al",))
    alone = one.decode(given, None, Sampling(seed=seeded()))
    for speaker in (0, -1):
        assert torch.equal(one.decode(given, torch.full((3,), speaker), Sampling(seed=seeded())), alone)


def test_what_does_not_fit_is_refused() -> None:
    for window, multiple in ((25, 30), (29, 30), (5, 6)):
        with pytest.raises(
            NarrowsError, match=f"data.window is {window}, which is not a multiple of 6, .* set it to {multiple}$"
        ):
            model(window=window)
    for likelihood in (DiscretizedLogistic, partial(Categorical, categories=LEVELS)):
        with pytest.raises(NarrowsError, match=r"a WaveNetDecoder draws discrete levels, but .* has none: set model"):
            model(likelihood=likelihood)
    with pytest.raises(NarrowsError, match=r"fixed size \(8, 8\): train it on data of variable length"):
        Autoencoder((3, 8, 8), StridedEncoder, quantizer(), WAVENET, MuLawCategorical)
    spoken = model()
    with pytest.raises(NarrowsError, match=r"given those before it: pass the data to observe\(\)"):
        spoken.observe(latents(4), condition=SPOKEN)
    with pytest.raises(NarrowsError, match="temperature must be above 0"):
        spoken.decode(codes(3, 4), SPOKEN, Sampling(0.0))
    with pytest.raises(NarrowsError, match=r"leaves \[-1, 1\]"):
        spoken.evidence(Batch(2 * sounds(WINDOW), None, SPOKEN), lambda posterior: posterior.draw())
    with pytest.raises(NarrowsError, match="codes must be in"):
        spoken.decode(codes(3, 4) + CODES, SPOKEN)


def test_sound_is_drawn_in_full_precision_whatever_the_autocast() -> None:
    spoken, x = model(), sounds(WINDOW)
    expected = spoken.decode(spoken.encode(x), SPOKEN, Sampling(seed=seeded()))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(spoken.decode(spoken.encode(x), SPOKEN, Sampling(seed=seeded())), expected)
        assert spoken.reconstruct(x, SPOKEN, Sampling(seed=seeded())).dtype == torch.float32


RECIPE = """
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: StridedEncoder, init_args: {width: 6, strides: [2, 3], blocks: 1}}
    bottleneck:
      class_path: ResidualQuantizer
      init_args: {quantizer: {class_path: VectorQuantizer, init_args: {dim: 3, codebook_size: 8}}, depth: 2}
    decoder:
      class_path: WaveNetDecoder
      init_args: {local_channels: 4, channels: 6, skip_channels: 16, stacks: 1, layers: 3}
    likelihood: {class_path: MuLawCategorical, init_args: {levels: 16}}
"""


def test_a_saved_model_encodes_and_speaks_as_before(tmp_path: Path) -> None:
    spec = Spec((1, WINDOW), "sound", ("al", "bo", "cy"), (-1.0, 1.0), True, 2000)
    torch.manual_seed(0)
    spoken = resolve(ModelRecipe, {"model": yaml.safe_load(RECIPE)["model"]}).build().model(spec)
    assert isinstance(spoken, Autoencoder)
    assert isinstance(spoken.bottleneck, ResidualQuantizer)
    # Weights, codebook and statistics of the features as a step of training leaves them.
    with torch.no_grad():
        for step in range(3):
            spoken.posterior(sounds(60 + step))
    save_autoencoder(tmp_path / "model", spoken, RECIPE)
    torch.manual_seed(1)
    loaded = load(tmp_path)
    assert isinstance(loaded, Autoencoder)
    assert not loaded.training
    assert (loaded.spec, loaded.hop, loaded.grid) == (spec, HOP, (4,))
    x, spoken = sounds(40), spoken.eval()
    assert torch.equal(loaded.encode(x), spoken.encode(x))
    assert loaded.encode(x).shape == (3, 7, 2)
    assert torch.equal(
        loaded.reconstruct(x, SPOKEN, Sampling(seed=seeded())), spoken.reconstruct(x, SPOKEN, Sampling(seed=seeded()))
    )
    found = []
    for each in (loaded, spoken):
        torch.manual_seed(6)
        found.append(each.sample(2, None, Sampling(seed=seeded())))
    assert torch.equal(*found)


def test_generate_describes_all_samples_at_once_where_the_decoder_does() -> None:
    spoken = model(STRIDED)
    torch.manual_seed(5)
    observation = spoken.generate(3, SPOKEN, Sampling(seed=seeded()))
    torch.manual_seed(5)
    assert torch.equal(observation.mean, spoken.sample(3, SPOKEN, Sampling(seed=seeded())))
    with pytest.raises(NarrowsError, match=r"or draw data with decode\(\) or sample\(\)"):
        model().generate(3, SPOKEN)


def test_an_encoder_of_images_and_weights_that_diverged_are_refused() -> None:
    spec = Spec((1, WINDOW), "sound", ("al",), (-1.0, 1.0), True, 2000)
    with pytest.raises(NarrowsError, match="ConvEncoder cannot encode examples of variable length: use StridedEncoder"):
        Autoencoder(spec, partial(ConvEncoder, width=4), quantizer(), WAVENET, LIKELIHOOD)
    spoken = model()
    with torch.no_grad():
        spoken.decoder.context.weight[0] = math.nan
    with pytest.raises(NarrowsError, match="the decoder's weights are not finite: its training diverged"):
        spoken.decode(codes(3, 4), SPOKEN)
