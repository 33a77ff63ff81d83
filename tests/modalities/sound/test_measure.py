import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch

from narrows.bottlenecks import Bottleneck, Categorical, Gaussian, VectorQuantizer
from narrows.data import Spec
from narrows.errors import NarrowsError
from narrows.evaluation import Measurement, measure
from narrows.likelihoods import MuLawCategorical, mu_law_decode, mu_law_encode
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.evaluate import in_random_order, measure_reconstructions
from narrows.modalities.sound.mel import log_mel_distance
from narrows.models import Autoencoder
from narrows.networks import StridedDecoder, StridedEncoder, WaveNetDecoder
from narrows.priors import WaveNetPrior

HOP, LEVELS, CODES, RATE = 6, 16, 8, 2000
LENGTHS = [47, 13]
DECODERS = {
    "wavenet": partial(WaveNetDecoder, local_channels=4, channels=6, skip_channels=16, stacks=2, layers=3),
    "strided": partial(StridedDecoder, width=8, strides=(3, 2), blocks=1),
}


def quantizer(codebooks: int = 1) -> VectorQuantizer:
    made = VectorQuantizer(dim=3, codebook_size=CODES, codebooks=codebooks)
    made.codebook.vectors.normal_()
    return made


def model(decoder: str, bottleneck: Bottleneck, speakers: tuple[str, ...] = ("al", "cy")) -> Autoencoder:
    torch.manual_seed(0)
    encoder = partial(StridedEncoder, width=6, strides=(2, 3), blocks=1)
    likelihood = partial(MuLawCategorical, levels=LEVELS)
    return Autoencoder(
        Spec((1, 24), "sound", speakers, (-1.0, 1.0), True, RATE), encoder, bottleneck, DECODERS[decoder], likelihood
    )


def clips(*lengths: int) -> Clips:
    """Of cy, and of bo, whom no model here was told of."""
    samples = np.random.default_rng(0).integers(-32768, 32768, sum(lengths)).astype(np.int16)
    speakers = np.array([2, 1, 2, 1][: len(lengths)], np.int64)
    names = [f"{number}.wav" for number in range(len(lengths))]
    return Clips(samples, np.cumsum([0, *lengths]), names, speakers, ["al", "bo", "cy"], window=24)


def measured_on(model: Autoencoder, part: Clips, advance: Callable[[int], None] = lambda n: None) -> Measurement:
    return measure(model, part.numbered(model.classes), advance=advance)


@pytest.mark.parametrize("codebooks", [1, 2])
@pytest.mark.parametrize("decoder", DECODERS)
def test_bits_are_those_of_every_sample_of_whole_clips(decoder: str, codebooks: int) -> None:
    measured = model(decoder, quantizer(codebooks)).eval()
    part = clips(*LENGTHS)
    log_likelihood, squared_error, used = 0.0, 0.0, []
    for number, speaker in enumerate((1, -1)):
        start, end = part.offsets[number], part.offsets[number + 1]
        x = torch.from_numpy(part.values[start:end]).float() / 32768
        codes = measured.encode(x.view(1, 1, -1))
        used.append(codes.view(-1, codebooks).numpy())
        z, told = measured.bottleneck.embed(codes), torch.tensor([speaker])
        levels = torch.zeros(1, 1, z.shape[2] * HOP).long()
        levels[0, 0, : len(x)] = mu_law_encode(x, LEVELS)
        logits = measured.decoder(z, levels, told) if decoder == "wavenet" else measured.decoder(z, told)
        log_probs = logits[0].double().log_softmax(0)
        log_likelihood += sum(log_probs[levels[0, 0, t], t].item() for t in range(len(x)))
        means = mu_law_decode(torch.arange(LEVELS), LEVELS).double() @ log_probs.exp()
        squared_error += (means[: len(x)] - x).square().sum().item()
    rate = (8 + 3) * codebooks * math.log2(CODES)
    distortion = -log_likelihood / math.log(2)
    counts = np.stack([np.bincount(column, minlength=CODES) for column in np.concatenate(used).T])
    shares = counts / counts.sum(1, keepdims=True)
    entropies = [-sum(share * math.log(share) for share in row if share) for row in shares]

    done: list[int] = []
    measurement = measured_on(measured, part, done.append)
    assert sum(done) == 2
    assert measurement.figures == pytest.approx(
        {
            "bits_per_dim": (rate + distortion) / 60,
            "rate_bits_per_dim": rate / 60,
            "distortion_bits_per_dim": distortion / 60,
            "log_likelihood": log_likelihood / 2,
            "bits_per_second": rate / 60 * RATE,
            "perplexity": np.exp(entropies).mean(),
            "usage": (counts > 0).mean(),
        }
        | ({} if decoder == "wavenet" else {"squared_error": squared_error / 60 * measured.dimensions}),
        rel=1e-5,
    )
    assert np.array_equal(measurement.counts, counts)
    assert counts.sum() == 11 * codebooks
    assert measurement.layer_rates == {}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_measuring_changes_nothing(decoder: str, continuous: bool, training: bool) -> None:
    measured, part = model(decoder, Gaussian(3) if continuous else quantizer()).train(training), clips(*LENGTHS)
    before = {name: tensor.clone() for name, tensor in measured.state_dict().items()}
    torch.manual_seed(7)
    figures = measured_on(measured, part).figures
    after = torch.rand(3)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(3), after)
    assert all(module.training == training for module in measured.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in measured.state_dict().items())
    assert all(parameter.grad is None for parameter in measured.parameters())
    # The draws are those of the data, whatever the state of the random numbers and the mode.
    torch.manual_seed(8)
    assert measured_on(measured.train(not training), part).figures == figures
    assert ("perplexity" in figures) is not continuous


def test_clips_of_continuous_latents_are_measured_one_by_one() -> None:
    """The rate, exact, is that of each clip alone."""
    measured, part = model("wavenet", Gaussian(3)).eval(), clips(*LENGTHS)
    rate = sum(measured.posterior(part.clip(number).view(1, 1, -1)).rate.item() for number in range(2))
    figures = measured_on(measured, part).figures
    assert figures["rate_bits_per_dim"] == pytest.approx(rate / 60 / math.log(2), rel=1e-5)
    assert figures["bits_per_dim"] == figures["rate_bits_per_dim"] + figures["distortion_bits_per_dim"]
    assert measured_on(measured, part).counts is None


def test_speakers_are_told_as_the_model_knows_them() -> None:
    part = clips(5, 6, 7, 8)
    assert part.numbered(model("strided", quantizer()).classes).labels.tolist() == [1, -1, 1, -1]
    assert part.numbered(model("strided", quantizer(), ("cy", "bo", "al")).classes).labels.tolist() == [0, 1, 0, 1]
    assert part.numbered(model("strided", quantizer(), ("di",)).classes).labels.tolist() == [-1] * 4
    for speakers in (("cy", "bo", "al"), ("di",), ("cy",)):
        figures = measured_on(model("strided", quantizer(), speakers).eval(), part).figures
        assert math.isfinite(figures["bits_per_dim"])


def test_each_speaker_is_heard_by_the_decoder() -> None:
    """The same clip of another speaker costs otherwise; that of one unknown, as -1."""
    measured, part = model("wavenet", quantizer()).eval(), clips(30)
    costs = set()
    for speaker in range(3):
        part.labels[0] = speaker
        costs.add(measured_on(measured, part).figures["distortion_bits_per_dim"])
    assert len(costs) == 3


def test_no_clips_are_refused() -> None:
    with pytest.raises(NarrowsError, match="there are no examples to measure"):
        measured_on(model("strided", quantizer()), clips())


def test_a_learned_prior_is_that_of_whole_windows_and_the_uniform_one_of_the_rest() -> None:
    measured, part = model("wavenet", quantizer()).eval(), clips(*LENGTHS)
    measured.prior = WaveNetPrior(measured.codes_of((3,)), channels=4, skip_channels=8, stacks=1, layers=2).eval()
    codes = measured.encode(part.clip(0).view(1, 1, -1))
    windows, cy = torch.stack([codes[0, :3], codes[0, 3:6]]), torch.tensor([1, 1])
    # Two windows of the eight codes of cy; two are left, and the three of bo, whom the prior does not know.
    nats = -measured.prior.log_prob(windows, cy).sum().item() + 5 * math.log(CODES)
    figures = measured_on(measured, part).figures
    assert figures["prior_rate_bits_per_dim"] == pytest.approx(nats / math.log(2) / 60, rel=1e-5)
    whole = figures["prior_rate_bits_per_dim"] + figures["distortion_bits_per_dim"]
    assert figures["prior_bits_per_dim"] == pytest.approx(whole)


def test_the_random_order_is_of_positions_and_always_the_same() -> None:
    codes, several, latents = torch.arange(50), torch.arange(100).view(50, 2), torch.arange(100.0).view(2, 50)
    mixed = in_random_order([codes, several, latents])
    assert all(map(torch.equal, mixed, in_random_order([codes, several, latents])))
    for before, after in ((codes, mixed[0]), (several, mixed[1]), (latents.t(), mixed[2].t())):
        assert sorted(after.tolist(), key=str) == sorted(before.tolist(), key=str)
        assert not torch.equal(before, after)


def test_reconstructions_are_held_to_the_clips_of_speakers_that_are_known() -> None:
    measured, part = model("strided", quantizer()).eval(), clips(600, 300, 450)
    figures = measure_reconstructions(measured, part.numbered(measured.classes))
    codes = [measured.encode(part.clip(number).view(1, 1, -1)) for number in (0, 2)]
    orders = [codes, [order.unsqueeze(0) for order in in_random_order([one[0] for one in codes])]]
    expected = [
        np.mean(
            [
                log_mel_distance(part.clip(number), measured.decode(one, torch.tensor([1]))[0, 0, :length], RATE)
                for number, length, one in zip((0, 2), (600, 450), given, strict=True)
            ]
        )
        for given in orders
    ]
    assert figures == pytest.approx(
        {"log_mel_db": expected[0], "log_mel_shuffled_db": expected[1], "reconstructed": 2}, rel=1e-5
    )
    with pytest.raises(NarrowsError, match="no clips of speakers that the model knows"):
        measure_reconstructions(model("strided", quantizer(), ("di",)).eval(), part.numbered(["di"]))


def test_the_bits_under_a_learned_prior_are_those_of_the_codes_that_it_is_given() -> None:
    """Of a categorical posterior the codes are its mode, so the distortion must be the mode's and not a draw's."""
    measured = model("strided", Categorical(dim=3, codebook_size=CODES)).eval()
    with torch.no_grad():
        for parameter in measured.decoder.parameters():
            parameter.mul_(3)  # so that a latent matters to what is decoded
    measured.prior = WaveNetPrior(measured.codes_of((2,)), channels=4, skip_channels=4, stacks=1, layers=2)
    part = clips(*LENGTHS)
    log_likelihood = 0.0
    for number, speaker in enumerate((1, -1)):
        x = part.clip(number).view(1, 1, -1)
        z = measured.bottleneck.embed(measured.encode(x))
        logits = measured.decoder(z, torch.tensor([speaker]))[0].double().log_softmax(0)
        levels = mu_law_encode(x.view(-1), LEVELS)
        log_likelihood += sum(logits[levels[t], t].item() for t in range(x.shape[2]))
    figures = measured_on(measured, part).figures
    expected = figures["prior_rate_bits_per_dim"] - log_likelihood / (60 * math.log(2))
    assert figures["prior_bits_per_dim"] == pytest.approx(expected, rel=1e-5)
    assert figures["prior_bits_per_dim"] != pytest.approx(
        figures["prior_rate_bits_per_dim"] + figures["distortion_bits_per_dim"], rel=1e-4
    )
