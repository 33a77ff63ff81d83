from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.networks.wavenet import WaveNet

INPUTS, OUTPUTS, LOCAL, GLOBAL, HOP = 2, 5, 3, 4, 4
CONDITIONS = [{}, {"local_channels": LOCAL, "hop": HOP}, {"global_channels": GLOBAL}]
CONDITIONS += [CONDITIONS[1] | CONDITIONS[2], {"local_channels": LOCAL}]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On sounds this short a second thread is all waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(**settings: Any) -> WaveNet:
    """A small network in double precision in which biases matter."""
    torch.manual_seed(0)
    network = WaveNet(INPUTS, OUTPUTS, **{"channels": 6, "skip_channels": 16, "stacks": 2, "layers": 3, **settings})
    torch.nn.init.normal_(network.bias)
    return network.double()


def sound(network: WaveNet, batch: int, length: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Samples [B, inputs, T] and the features that the network reads of them."""
    features = {}
    if network.local_channels:
        features["local"] = torch.randn(batch, LOCAL, length // network.hop).double()
    if network.global_channels:
        features["global_"] = torch.randn(batch, GLOBAL).double()
    return torch.randn(batch, INPUTS, length).double(), features


@pytest.mark.parametrize(
    ("stacks", "layers", "kernel_size", "samples"), [(3, 10, 2, 3070), (1, 1, 2, 2), (1, 4, 3, 31), (2, 3, 2, 15)]
)
def test_the_receptive_field(stacks: int, layers: int, kernel_size: int, samples: int) -> None:
    network = WaveNet(1, 1, 1, 1, stacks=stacks, layers=layers, kernel_size=kernel_size)
    assert network.receptive_field == samples


@pytest.mark.parametrize("settings", [{}, {"stacks": 1}, {"kernel_size": 3, "layers": 2}, CONDITIONS[1]], ids=str)
def test_outputs_depend_on_the_receptive_field_before_them_and_on_nothing_else(settings: dict[str, int]) -> None:
    network, length = build(**settings), 40
    x, features = sound(network, 2, length)
    x.requires_grad_()
    outputs = network(x, **features)
    for t in range(length):
        (gradient,) = torch.autograd.grad(outputs[0, :, t].sum(), x, retain_graph=True)
        seen = torch.arange(length)
        seen = (seen < t) & (seen >= t - network.receptive_field)
        assert torch.equal(gradient[0] != 0, seen.expand(INPUTS, -1))
        assert not gradient[1].any()


def test_local_features_are_of_their_hop_and_reach_as_far_as_the_layers_after_the_first() -> None:
    network = build(**CONDITIONS[1])
    x, features = sound(network, 1, 40)
    local = features["local"].requires_grad_()
    outputs = network(x, local)
    for t in range(40):
        (gradient,) = torch.autograd.grad(outputs[0, :, t].sum(), local, retain_graph=True)
        position = torch.arange(local.shape[2])
        seen = (position <= t // HOP) & (position >= (t - sum(network.spans[1:])) // HOP)
        assert torch.equal(gradient[0] != 0, seen.expand(LOCAL, -1))


def test_a_feature_of_a_hop_is_that_of_each_of_its_samples() -> None:
    network, each = build(**CONDITIONS[3]), build(**CONDITIONS[3] | {"hop": 1})
    each.load_state_dict(network.state_dict())
    x, features = sound(network, 2, 32)
    repeated = features | {"local": features["local"].repeat_interleave(HOP, 2)}
    torch.testing.assert_close(network(x, **features), each(x, **repeated), rtol=0, atol=1e-12)


def test_all_parameters_learn() -> None:
    network = build(**CONDITIONS[3])
    x, features = sound(network, 2, 32)
    network(x, **features).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def by_hand(network: WaveNet, x: Tensor, local: Tensor, global_: Tensor) -> Tensor:
    """Outputs [B, outputs, T], tap by tap and sample by sample, with the layers as the paper draws them (figure 4)."""
    batch, _, length = x.shape
    before = torch.cat([torch.zeros(batch, INPUTS, 1).double(), x[..., :-1]], 2)
    inlet, *residuals = network.projects
    stream = torch.einsum("oi,bit->bot", inlet.weight[..., 0], before) + inlet.bias[:, None]
    channels, skips = stream.shape[1], network.skips.bias[:, None]
    constant = network.bias + global_ @ network.whole.weight.T
    conditions = [constant + local[..., t // HOP] @ network.local.weight[..., 0].T for t in range(length)]
    for layer, dilated in enumerate(network.dilated):
        gates = torch.stack([every.unflatten(1, (-1, 2 * channels))[:, layer] for every in conditions], 2)
        for tap, weight in enumerate(dilated.weight.unbind(2)):
            back = (dilated.weight.shape[2] - 1 - tap) * dilated.dilation[0]
            for t in range(back, length):
                gates[..., t] += stream[..., t - back] @ weight.T
        # The filter's sign and scale are its weights': tanh(-a / 2) sigmoid(b).
        gated = (-gates[:, :channels] / 2).tanh() * gates[:, channels:].sigmoid()
        part = network.skips.weight[:, layer * channels : (layer + 1) * channels, 0]
        skips = skips + torch.einsum("oi,bit->bot", part, gated)
        if layer < len(residuals):
            stream = stream + torch.einsum("oi,bit->bot", residuals[layer].weight[..., 0], gated)
    hidden = torch.einsum("oi,bit->bot", network.hidden.weight[..., 0], skips.relu()) + network.hidden.bias[:, None]
    return torch.einsum("oi,bit->bot", network.out.weight[..., 0], hidden.relu()) + network.out.bias[:, None]


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_the_layers_are_gated_with_conditions_residual_and_skip_connections(kernel_size: int) -> None:
    network = build(kernel_size=kernel_size, **CONDITIONS[3])
    x, features = sound(network, 2, 20)
    torch.testing.assert_close(network(x, **features), by_hand(network, x, **features), rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", CONDITIONS, ids=str)
@pytest.mark.parametrize("shape", [{}, {"kernel_size": 3}, {"channels": 1, "skip_channels": 1, "stacks": 1}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_steps_give_the_outputs_of_the_parallel_pass(
    settings: dict[str, int], shape: dict[str, int], dtype: torch.dtype
) -> None:
    network = build(**settings, **shape).to(dtype)
    x, features = sound(network, 3, 100)
    x, features = x.to(dtype), {name: given.to(dtype) for name, given in features.items()}
    assert x.shape[2] > 3 * network.receptive_field
    stepped, previous = [], torch.zeros_like(x[..., 0])
    state = network.begin(len(x), **features)
    for sample in x.unbind(2):
        stepped.append(state.step(previous))
        previous = sample
    tolerance = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(torch.stack(stepped, 2), network(x, **features), rtol=0, atol=tolerance)


@pytest.mark.parametrize("settings", CONDITIONS, ids=str)
def test_levels_are_read_as_their_one_hot_samples(settings: dict[str, int]) -> None:
    network = build(**settings)
    x, features = sound(network, 3, 20)
    levels = x.argmax(1)
    assert levels.unique().tolist() == list(range(INPUTS))
    one_hot = torch.nn.functional.one_hot(levels, INPUTS).transpose(1, 2).double()
    outputs = network(one_hot, **features)
    torch.testing.assert_close(network(levels, **features), outputs, rtol=0, atol=1e-12)
    by_level, by_sample = (network.begin(3, **features) for _ in range(2))
    # Before the first sample there is nothing: None, or zeros, but no level.
    first = by_level.step(None)
    assert torch.equal(first, by_sample.step(torch.zeros(3, INPUTS).double()))
    torch.testing.assert_close(first, outputs[..., 0], rtol=0, atol=1e-12)
    for level in range(INPUTS):
        assert (network.begin(3, **features).step(torch.full((3,), level)) != first).any()
    for t in range(1, 20):
        stepped = by_level.step(levels[:, t - 1])
        assert torch.equal(stepped, by_sample.step(one_hot[..., t - 1]))
        torch.testing.assert_close(stepped, outputs[..., t], rtol=0, atol=1e-12)


def test_levels_and_one_hot_samples_have_the_same_gradient() -> None:
    network = build(**CONDITIONS[3])
    x, features = sound(network, 2, 32)
    levels = x.argmax(1)
    gradients = []
    for given in (levels, torch.nn.functional.one_hot(levels, INPUTS).transpose(1, 2).double()):
        loss = network(given, **features).square().sum()
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    for of_levels, of_samples in zip(*gradients, strict=True):
        torch.testing.assert_close(of_levels, of_samples)


def test_a_drawn_sound_is_that_of_a_full_pass_for_each_sample() -> None:
    """Levels one-hot, drawn with the same random numbers; the state is used as a likelihood would use it."""
    torch.manual_seed(0)
    network = WaveNet(8, 8, 6, 16, stacks=2, layers=3, local_channels=LOCAL, hop=HOP).double()
    local = torch.randn(2, LOCAL, 10).double()

    def one_hot(logits: Tensor, noise: Tensor) -> Tensor:
        return torch.nn.functional.one_hot((4 * logits + noise).argmax(1), 8).double()

    noises = -torch.empty(40, 2, 8).double().exponential_().log()
    with torch.inference_mode():
        state, drawn = network.begin(2, local), [torch.zeros(2, 8).double()]
        for noise in noises:
            drawn.append(one_hot(state.step(drawn[-1]), noise))
        x = torch.zeros(2, 8, 40).double()
        for t, noise in enumerate(noises):
            x[..., t] = one_hot(network(x, local)[..., t], noise)
    assert torch.equal(torch.stack(drawn[1:], 2), x)
    assert x.any(2).sum() > 8  # more than one level of each sound


def test_states_are_independent_and_give_no_gradient() -> None:
    network = build(**CONDITIONS[3])
    x, features = sound(network, 2, 32)
    features["local"].requires_grad_()
    both = [network.begin(2, **features), network.begin(2, **features)]
    for sample in x.unbind(2):
        outputs = [state.step(sample) for state in both]
        assert torch.equal(*outputs)
        assert not outputs[0].requires_grad


def test_bad_settings_are_refused() -> None:
    sizes = ("inputs", "outputs", "channels", "skip_channels", "stacks", "layers", "hop")
    for name in sizes:
        with pytest.raises(NarrowsError, match=f"{name} must be at least 1, not 0"):
            WaveNet(**{"inputs": 1, "outputs": 1, name: 0})
    with pytest.raises(NarrowsError, match="kernel_size must be at least 2, not 1"):
        WaveNet(1, 1, kernel_size=1)
    with pytest.raises(NarrowsError, match="local_channels must be at least 0, not -1"):
        WaveNet(1, 1, local_channels=-1)
    with pytest.raises(NarrowsError, match="hop is 64, but there are no local features"):
        WaveNet(1, 1, hop=64)


@pytest.mark.parametrize("parallel", [True, False])
def test_features_that_do_not_fit_are_refused(parallel: bool) -> None:
    def run(network: WaveNet, **features: Tensor) -> object:
        return network(torch.zeros(2, INPUTS, 8).double(), **features) if parallel else network.begin(2, **features)

    without, local, whole = build(), build(**CONDITIONS[1]), build(**CONDITIONS[2])
    with pytest.raises(NarrowsError, match="local_channels = 0: leave local features out"):
        run(without, local=torch.zeros(2, LOCAL, 2).double())
    with pytest.raises(NarrowsError, match="global_channels = 0: leave global features out"):
        run(without, global_=torch.zeros(2, GLOBAL).double())
    with pytest.raises(NarrowsError, match="local_channels = 3: pass local features"):
        run(local)
    with pytest.raises(NarrowsError, match="global_channels = 4: pass global features"):
        run(whole)
    for shape in ((1, LOCAL, 2), (2, LOCAL + 1, 2), (2, LOCAL)):
        with pytest.raises(NarrowsError, match=r"local features must have the shape \[2, 3, N\]"):
            run(local, local=torch.zeros(shape).double())
    for shape in ((1, GLOBAL), (2, GLOBAL + 1), (2, GLOBAL, 1)):
        with pytest.raises(NarrowsError, match=r"global features must have the shape \[2, 4\]"):
            run(whole, global_=torch.zeros(shape).double())


def test_local_features_that_are_not_as_long_as_the_sound_are_refused() -> None:
    network = build(**CONDITIONS[1])
    x, features = sound(network, 2, 8)
    for length in (7, 9, 12):
        with pytest.raises(NarrowsError, match=f"2 local features of hop = 4 samples each do not fit {length} samples"):
            network(torch.zeros(2, INPUTS, length).double(), **features)
    state = network.begin(2, **features)
    for sample in x.unbind(2):
        state.step(sample)
    for _ in range(2):
        with pytest.raises(NarrowsError, match="the local features cover 8 samples"):
            state.step(x[..., 0])


def test_a_step_needs_a_sample_of_each_sound() -> None:
    state = build().begin(3)
    for shape in ((1, INPUTS), (3,), (3, INPUTS, 1)):
        with pytest.raises(
            NarrowsError, match=r"step\(\) needs the previous sample, \[3, 2\], or its level, \[3\], not"
        ):
            state.step(torch.zeros(shape).double())
