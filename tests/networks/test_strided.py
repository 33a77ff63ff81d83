import math
from collections.abc import Callable
from math import prod

import pytest
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.networks import StridedDecoder, StridedEncoder, WaveNetDecoder

LATENTS, LEVELS, SPEAKERS, HOP = 3, 16, 3, 4
STRIDES = [(2,), (3,), (2, 2), (2, 3), (5, 2), (3, 3)]


def encoder(*strides: int) -> StridedEncoder:
    torch.manual_seed(0)
    return StridedEncoder(1, LATENTS, width=8, strides=strides, blocks=1).eval()


def strided(*strides: int, speakers: int = SPEAKERS) -> StridedDecoder:
    torch.manual_seed(0)
    return StridedDecoder(LATENTS, LEVELS, speakers, prod(strides), width=8, strides=strides, blocks=1)


def wavenet(speakers: int = SPEAKERS, context: int = 3) -> WaveNetDecoder:
    """A receptive field of 15 samples."""
    torch.manual_seed(0)
    return WaveNetDecoder(
        LATENTS, LEVELS, speakers, HOP, context, local_channels=4, channels=6, skip_channels=16, stacks=2, layers=3
    )


def latents(positions: int, batch: int = 2) -> Tensor:
    return torch.randn(batch, LATENTS, positions, generator=torch.Generator().manual_seed(1))


def random_levels(samples: int, batch: int = 2) -> Tensor:
    return torch.randint(LEVELS, (batch, samples), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("strides", STRIDES, ids=str)
@pytest.mark.parametrize("positions", [1, 2, 5])
def test_a_feature_is_of_hop_samples(strides: tuple[int, ...], positions: int) -> None:
    network = encoder(*strides)
    assert network.hop == prod(strides)
    assert network(torch.randn(2, 1, positions * network.hop)).shape == (2, LATENTS, positions)


@pytest.mark.parametrize("strides", STRIDES, ids=str)
def test_features_are_in_line_with_their_samples(strides: tuple[int, ...]) -> None:
    """Sound and features move alike, and what a feature depends on has the samples of its hop in the middle."""
    network = encoder(*strides).double()
    hop = network.hop
    x = torch.randn(64, 1, 13 * hop).double().requires_grad_()
    features = network(x)
    torch.testing.assert_close(network(x.roll(hop, 2))[..., 7], features[..., 6])
    (gradient,) = torch.autograd.grad(features[..., 6].square().sum(), x)
    seen = gradient.any(0)[0].nonzero().flatten()
    first, last = int(seen[0]), int(seen[-1])
    assert len(seen) == last - first + 1
    before, after = 6 * hop - first, last - (7 * hop - 1)
    assert min(before, after) > 0
    assert 2 * abs(before - after) < hop  # odd strides have no middle


def test_sound_is_read_companded() -> None:
    network, x = encoder(2, 3), 2 * torch.rand(2, 1, 12) - 1
    torch.testing.assert_close(network(x), network.layers(x.sign() * (1 + 255 * x.abs()).log() / math.log(256)))


@pytest.mark.parametrize("strides", STRIDES, ids=str)
def test_sound_that_is_no_multiple_of_hop_is_refused(strides: tuple[int, ...]) -> None:
    network = encoder(*strides)
    for samples in (1, network.hop - 1, 2 * network.hop + 1):
        if samples % network.hop:
            with pytest.raises(NarrowsError, match=f"{samples} samples are not a multiple of {network.hop}"):
                network(torch.zeros(1, 1, samples))


def test_features_are_normalised_by_batch() -> None:
    features = encoder(2, 2).train()(0.1 * torch.randn(8, 1, 64))
    torch.testing.assert_close(features.mean((0, 2)), torch.zeros(LATENTS), rtol=0, atol=1e-5)
    torch.testing.assert_close(features.var((0, 2), correction=0), torch.ones(LATENTS), rtol=0.02, atol=0)


@pytest.mark.parametrize("strides", [(), (1,), (2, 1), (0, 2), (-2, -2)], ids=str)
def test_strides_that_make_nothing_shorter_are_refused(strides: tuple[int, ...]) -> None:
    message = "there must be at least one, and each at least 2"
    with pytest.raises(NarrowsError, match=message):
        StridedEncoder(1, LATENTS, width=4, strides=strides)
    with pytest.raises(NarrowsError, match=message):
        StridedDecoder(LATENTS, LEVELS, SPEAKERS, prod(strides) if strides else 8, width=4, strides=strides)


@pytest.mark.parametrize("strides", STRIDES, ids=str)
@pytest.mark.parametrize("positions", [1, 2, 5])
def test_latents_become_hop_samples_each(strides: tuple[int, ...], positions: int) -> None:
    out = strided(*strides)(latents(positions), torch.tensor([0, 2]))
    assert out.shape == (2, LEVELS, positions * prod(strides))


@pytest.mark.parametrize("strides", STRIDES, ids=str)
def test_samples_are_in_line_with_their_latents(strides: tuple[int, ...]) -> None:
    network, hop = strided(*strides).double(), prod(strides)
    z, speakers = latents(11, batch=64).double(), torch.zeros(64).long()
    out = network(z, speakers)
    torch.testing.assert_close(network(z.roll(1, 2), speakers)[..., 6 * hop : 7 * hop], out[..., 5 * hop : 6 * hop])
    other = z.clone()
    other[:, :, 5] += 1
    seen = (network(other, speakers) != out).any(0).any(0).nonzero().flatten()
    before, after = 5 * hop - int(seen[0]), int(seen[-1]) - (6 * hop - 1)
    assert len(seen) == before + hop + after
    assert min(before, after) > 0
    assert 2 * abs(before - after) < hop


def test_strides_are_twos_by_default_and_must_make_the_hop() -> None:
    assert StridedDecoder(LATENTS, LEVELS, 1, hop=8, width=4)(latents(5), torch.zeros(2)).shape == (2, LEVELS, 40)
    assert StridedDecoder(LATENTS, LEVELS, 1, hop=8).strides == (2, 2, 2)
    with pytest.raises(NarrowsError, match=r"strides \[2, 2, 2\] make 8 samples per latent, but .* has 10"):
        StridedDecoder(LATENTS, LEVELS, 1, hop=10)
    with pytest.raises(NarrowsError, match=r"strides \[3, 2\] make 6 samples per latent, but .* has 8"):
        StridedDecoder(LATENTS, LEVELS, 1, hop=8, strides=(3, 2))
    with pytest.raises(NarrowsError, match="at least one"):
        StridedDecoder(LATENTS, LEVELS, 1, hop=1)


def decoded(network: StridedDecoder | WaveNetDecoder, *speakers: int) -> Tensor:
    """Of the same latents, and levels, for each speaker."""
    z = latents(3, batch=1).expand(len(speakers), -1, -1)
    if isinstance(network, StridedDecoder):
        return network(z, torch.tensor(speakers))
    return network(z, random_levels(3 * HOP, batch=1).expand(len(speakers), -1), torch.tensor(speakers))


@pytest.mark.parametrize("make", [lambda speakers: strided(2, 2, speakers=speakers), wavenet], ids=["strided", "wave"])
def test_each_speaker_is_another_and_one_unknown_is_none_of_them(
    make: Callable[[int], StridedDecoder | WaveNetDecoder],
) -> None:
    network = make(SPEAKERS)
    out = decoded(network, 0, 1, 2, -1, 0)
    for one in range(4):
        for other in range(one):
            assert ((out[one] - out[other]).abs().amax(0) > 1e-3).all(), (one, other)
    torch.testing.assert_close(out[4], out[0])
    # To one unknown the network is what it would be without speakers, as it is where there is but one.
    alone = make(1)
    voiceless = {name: weight for name, weight in network.state_dict().items() if name in alone.state_dict()}
    assert len(network.state_dict()) == len(voiceless) + 1
    alone.load_state_dict(voiceless)
    for speaker in (0, -1):
        torch.testing.assert_close(decoded(alone, speaker)[0], out[3])


def test_levels_from_t_on_do_not_change_the_logits_at_t() -> None:
    network, levels, speakers = wavenet(), random_levels(6 * HOP), torch.tensor([0, -1])
    z = latents(6)
    logits = network(z, levels, speakers)
    assert logits.shape == (2, LEVELS, 6 * HOP)
    for t in range(6 * HOP):
        other = levels.clone()
        other[:, t:] = (other[:, t:] + 1 + torch.arange(6 * HOP - t)) % LEVELS
        changed = network(z, other, speakers)
        assert torch.equal(changed[..., : t + 1], logits[..., : t + 1])
        if t + 1 < 6 * HOP and (other[:, t] != levels[:, t]).all():
            assert (changed[..., t + 1] != logits[..., t + 1]).any(1).all()


def test_each_level_of_the_receptive_field_changes_the_logits() -> None:
    network, levels, speakers, t = wavenet(), random_levels(6 * HOP), torch.tensor([0, -1]), 20
    logits = network(latents(6), levels, speakers)[..., t]
    for back in range(1, 20):
        other = levels.clone()
        other[:, t - back] = (other[:, t - back] + LEVELS // 2) % LEVELS
        changed = (network(latents(6), other, speakers)[..., t] - logits).abs().amax(1)
        assert ((changed > 0) == (back <= network.network.receptive_field)).all(), back


@pytest.mark.parametrize("context", [1, 3, 5])
def test_a_latent_changes_the_logits_of_its_hop_and_of_the_context(context: int) -> None:
    network, levels, speakers = wavenet(context=context), random_levels(6 * HOP), torch.tensor([0, -1])
    logits, z = network(latents(6), levels, speakers), latents(6)
    z[:, :, 3] += 1
    changed = (network(z, levels, speakers) != logits).any(1)
    first = (3 - context // 2) * HOP
    assert not changed[:, :first].any()
    assert changed[:, first : 4 * HOP].all()


@pytest.mark.parametrize("speakers", [SPEAKERS, 1])
def test_steps_give_the_logits_of_the_parallel_pass(speakers: int) -> None:
    network, levels, told = wavenet(speakers).double(), random_levels(5 * HOP), torch.tensor([0, -1])
    z = latents(5).double()
    state = network.begin(z, told)
    stepped = [state.step(previous) for previous in [None, *levels.unbind(1)[:-1]]]
    torch.testing.assert_close(torch.stack(stepped, 2), network(z, levels, told), rtol=0, atol=1e-12)


@pytest.mark.parametrize("context", [0, 2, -1])
def test_a_context_without_a_middle_is_refused(context: int) -> None:
    with pytest.raises(NarrowsError, match=f"context is {context}: it must be odd"):
        wavenet(context=context)
