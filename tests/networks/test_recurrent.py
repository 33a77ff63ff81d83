import pytest
import torch
from torch import Tensor, nn

from narrows.bottlenecks import Gaussian
from narrows.data import Batch, Spec
from narrows.errors import NarrowsError
from narrows.likelihoods import Bernoulli
from narrows.models import Autoencoder
from narrows.networks import AutoregressiveRecurrentDecoder, RecurrentDecoder, RecurrentEncoder

CELLS = ["rnn", "gru", "lstm"]
WINDOW, INPUTS = 6, 3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def rolls(batch: int, windows: int) -> Tensor:
    return torch.randint(2, (batch, INPUTS, windows * WINDOW)).float()


def encoder(**settings: object) -> RecurrentEncoder:
    return RecurrentEncoder(INPUTS, 4, window=WINDOW, hidden=5, **settings)  # type: ignore[arg-type]


def test_the_encoder_is_the_papers_equation() -> None:
    network, x = encoder(), rolls(2, 1)
    w_in, w_enc, b_in, b_enc = (
        getattr(network.network, f"{name}_l0") for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    h = torch.zeros(2, 5)
    for t in range(WINDOW):
        h = torch.tanh(h @ w_enc.t() + x[:, :, t] @ w_in.t() + b_in + b_enc)
    torch.testing.assert_close(network(x), (h @ network.out.weight.t() + network.out.bias).unsqueeze(2))


@pytest.mark.parametrize("cell", CELLS)
def test_windows_are_encoded_independently(cell: str) -> None:
    network, x = encoder(cell=cell), rolls(2, 3)
    alone = [network(window) for window in x.split(WINDOW, 2)]
    torch.testing.assert_close(network(x), torch.cat(alone, 2))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_what_follows_the_end_does_not_count(cell: str, reverse: bool) -> None:
    network, x = encoder(cell=cell, reverse=reverse), rolls(2, 2)
    lengths = torch.tensor([8, 12])
    mask = torch.arange(12) < lengths.unsqueeze(1)
    found = network(x, mask)
    short = RecurrentEncoder(INPUTS, 4, window=2, hidden=5, cell=cell, reverse=reverse)  # type: ignore[arg-type]
    short.load_state_dict(network.state_dict())
    torch.testing.assert_close(found[0, :, 0], network(x)[0, :, 0])
    torch.testing.assert_close(found[:1, :, 1:], short(x[:1, :, 6:8]))
    torch.testing.assert_close(found[1], network(x)[1])
    changed = x.clone()
    changed[0, :, 8:] = 9
    assert torch.equal(network(changed, mask), found)


def test_a_reversed_encoder_reads_from_the_end() -> None:
    forward, backward, x = encoder(), encoder(reverse=True), rolls(2, 1)
    backward.load_state_dict(forward.state_dict())
    torch.testing.assert_close(backward(x), forward(x.flip(2)))


def test_the_decoder_is_the_papers_equation() -> None:
    network, z = RecurrentDecoder(2, INPUTS, hidden=5, hop=WINDOW), torch.randn(2, 2, 1)
    cell = network.cell
    h, x, expected = torch.tanh(network.start(z[:, :, 0])), torch.zeros(2, INPUTS), []
    for _ in range(WINDOW):
        h = torch.tanh(h @ cell.weight_hh.t() + x @ cell.weight_ih.t() + cell.bias_ih + cell.bias_hh)
        expected.append(h @ network.out.weight.t() + network.out.bias)
        x = torch.sigmoid(expected[-1])
    torch.testing.assert_close(network(z), torch.stack(expected, 2))


@pytest.mark.parametrize("cell", CELLS)
def test_fed_with_its_own_outputs_torchs_network_gives_the_same(cell: str) -> None:
    network = RecurrentDecoder(2, INPUTS, hidden=5, cell=cell, hop=WINDOW)  # type: ignore[arg-type]
    z = torch.randn(3, 2, 1)
    outputs = network(z)
    whole = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[cell](INPUTS, 5, batch_first=True)
    whole.load_state_dict({f"{name}_l0": value for name, value in network.cell.state_dict().items()})
    fed = torch.cat([torch.zeros(3, INPUTS, 1), outputs.sigmoid()[:, :, :-1]], 2).transpose(1, 2)
    h = torch.tanh(network.start(z[:, :, 0])).unsqueeze(0)
    states, _ = whole(fed, (h, torch.zeros_like(h)) if cell == "lstm" else h)
    torch.testing.assert_close(outputs, network.out(states).transpose(1, 2))


@pytest.mark.parametrize("cell", CELLS)
def test_a_run_goes_on_where_it_stopped(cell: str) -> None:
    network = RecurrentDecoder(2, INPUTS, hidden=5, cell=cell, hop=WINDOW)  # type: ignore[arg-type]
    z = torch.randn(2, 2)
    whole, _ = network.run(network.begin(z), 50)
    first, state = network.run(network.begin(z), WINDOW)
    rest, _ = network.run(state, 50 - WINDOW)
    assert torch.equal(torch.cat([first, rest], 2), whole)
    assert torch.equal(first, network(z.unsqueeze(2)))


@pytest.mark.parametrize("cell", CELLS)
def test_steps_give_what_the_parallel_form_gives(cell: str) -> None:
    network = AutoregressiveRecurrentDecoder(2, INPUTS, hidden=5, cell=cell, hop=WINDOW)  # type: ignore[arg-type]
    z, levels = torch.randn(2, 2, 3), rolls(2, 3).long()
    state, outputs = network.begin(z), []
    for t in range(3 * WINDOW):
        outputs.append(state.step(levels[:, :, t - 1] if t else None))
    torch.testing.assert_close(torch.stack(outputs, 2), network(z, levels))


def test_outputs_depend_on_the_steps_before_alone() -> None:
    network = AutoregressiveRecurrentDecoder(2, INPUTS, hidden=5, hop=WINDOW)
    z, levels = torch.randn(1, 2, 2), rolls(1, 2).long()
    changed = levels.clone()
    changed[:, :, 2] = 1 - changed[:, :, 2]
    differs = (network(z, levels) != network(z, changed)).any(1)[0]
    assert differs.tolist() == [False] * 3 + [True] * 3 + [False] * WINDOW


def test_probabilities_of_all_sequences_sum_to_one() -> None:
    """Over all 2^6 windows of two pitches and three steps."""
    network, likelihood = AutoregressiveRecurrentDecoder(2, 2, hidden=5, hop=3).double(), Bernoulli(2)
    bits = torch.arange(64).unsqueeze(1) >> torch.arange(6) & 1
    x, z = bits.view(64, 2, 3), torch.randn(1, 2, 1, dtype=torch.float64).expand(64, -1, -1)
    torch.testing.assert_close(likelihood(network(z, x)).log_prob(x.float()).exp().sum(), torch.tensor(1.0))


def model() -> Autoencoder:
    spec = Spec((INPUTS, WINDOW), variable=True)
    return Autoencoder(
        spec,
        lambda inputs, outputs: RecurrentEncoder(inputs, outputs, window=WINDOW, hidden=5),
        Gaussian(2),
        lambda latents, outputs, hop: RecurrentDecoder(latents, outputs, hidden=5, hop=hop),
        Bernoulli,
    )


def test_a_sequence_padded_to_twice_its_length_has_the_same_loss() -> None:
    own, x = model(), rolls(2, 2)[:, :, :10]
    padded, mask = torch.cat([x, torch.ones(2, INPUTS, 14)], 2), torch.arange(24).expand(2, -1) < 10
    torch.manual_seed(1)
    posterior, evidence = own.evidence(Batch(x), lambda posterior: posterior.draw())
    noise = (evidence.log_q, evidence.log_likelihood)
    assert [part.shape for part in noise] == [(1, 2), (1, 2)]
    wide, _ = own.evidence(Batch(padded, mask), lambda posterior: posterior.draw())
    torch.testing.assert_close(wide.rate, posterior.rate)
    found = [
        own.observe(z.mode).log_prob(data, counted)
        for z, data, counted in (
            (posterior, torch.cat([x, torch.zeros(2, INPUTS, 2)], 2), mask[:, :12]),
            (wide, padded, mask),
        )
    ]
    torch.testing.assert_close(found[0], found[1])


def test_sizes_that_cannot_be_are_refused() -> None:
    with pytest.raises(NarrowsError, match="13 steps are not a whole number of windows of 6"):
        encoder()(torch.zeros(1, INPUTS, 13))
    with pytest.raises(NarrowsError, match="hidden is 0"):
        RecurrentDecoder(2, INPUTS, hidden=0)
    with pytest.raises(NarrowsError, match="cell is 'tanh': it must be one of rnn, gru, lstm"):
        RecurrentEncoder(INPUTS, 4, cell="tanh")  # type: ignore[arg-type]


def test_silence_starts_without_effect_and_a_tanh_state_lasts() -> None:
    network = RecurrentEncoder(INPUTS, 4, window=WINDOW, hidden=5)
    with torch.no_grad():
        network.network.bias_hh_l0.zero_()
    state = 0.1 * torch.randn(5)
    silent = -torch.ones(1, INPUTS, WINDOW)
    expected = state.clone()
    for _ in range(WINDOW):
        expected = expected.tanh()
    torch.testing.assert_close(network.last_states(silent, state=state)[0, 0], expected)


def test_outputs_start_with_the_given_bias() -> None:
    for kind in (RecurrentDecoder, AutoregressiveRecurrentDecoder):
        assert (kind(2, INPUTS, hidden=5, bias=-4.0).out.bias == -4).all()
