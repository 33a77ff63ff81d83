from collections.abc import Iterator

import pytest
import torch

from narrows.errors import NarrowsError
from narrows.networks.causal import CausalBlock, CausalTransformer, WrittenCache, causal_attention
from narrows.networks.codes import CodeTransformer

GRID, CODEBOOKS, K = (2, 3), 2, 5
LENGTH = 12


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On sequences this short a second thread is all waiting."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_steps_of_several_sequences_give_the_logits_of_the_parallel_pass() -> None:
    network = CodeTransformer(CODEBOOKS, K, width=8, layers=2, heads=2).double()
    memory = network.read(torch.randn(3, 8, *GRID).double())
    codes = torch.randint(K, (3, 4, LENGTH))
    state, previous, logits = network.begin(memory, GRID, samples=4), None, []
    with torch.no_grad():
        for code in codes.unbind(2):
            logits.append(state.step(previous))
            previous = code
    torch.testing.assert_close(torch.stack(logits, 2), network(codes, memory, GRID).detach(), rtol=0, atol=1e-12)


def test_a_mixture_of_one_code_is_the_code() -> None:
    network = CodeTransformer(CODEBOOKS, K, width=8, layers=2, heads=2).double()
    memory = network.read(torch.randn(3, 8, *GRID).double())

    def greedy(logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(logits.argmax(-1), K).double()

    codes = network.write(memory, GRID, 1, lambda logits: logits.argmax(-1))
    assert torch.equal(network.mix(memory, GRID, 1, greedy).argmax(-1), codes)
    assert len(codes.unique()) > 1


def test_steps_out_of_turn_are_refused() -> None:
    network = CodeTransformer(1, K, width=8, layers=1, heads=2)
    state = network.begin(network.read(torch.randn(1, 8, 1)), (1,))
    with pytest.raises(NarrowsError, match="None at the first"):
        state.step(torch.tensor([[0]]))
    with torch.no_grad():
        state.step(None)
    with pytest.raises(NarrowsError, match="all 1 codes are drawn"):
        state.step(torch.tensor([[0]]))


def test_dropout_spares_the_residual_stream() -> None:
    block = CausalBlock(width=8, heads=2)
    x = torch.randn(2, 3, 5, 8)
    assert torch.equal(block(x, block.read(torch.randn(2, 4, 8)), causal_attention, torch.zeros_like), x)


def test_dropout_is_of_training_and_not_of_a_step() -> None:
    transformer = CausalTransformer(width=8, layers=2, heads=2, dropout=0.5)
    x, memory = torch.randn(2, 1, 5, 8), transformer.read(torch.randn(2, 4, 8))
    with torch.no_grad():
        expected = transformer.eval()(x, memory)
        assert not torch.allclose(transformer.train()(x, memory), expected)
        caches = [WrittenCache(torch.empty(2, 2, 2, 5, 4)) for _ in range(2)]
        found = torch.cat([transformer(step, memory, caches) for step in x.split(1, 2)], 2)
    torch.testing.assert_close(found, expected)
