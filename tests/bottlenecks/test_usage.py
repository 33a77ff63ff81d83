import pytest
import torch

from narrows.bottlenecks.usage import count, perplexity, usage_statistics


def test_counts_perplexity_and_usage_of_known_codes() -> None:
    counts = count(torch.tensor([[0, 3], [1, 3]]), size=4)  # two tokens, two codebooks
    assert counts.tolist() == [[1, 1, 0, 0], [0, 0, 0, 2]]
    assert perplexity(counts).tolist() == pytest.approx([2, 1])
    assert usage_statistics(counts) == {"perplexity": pytest.approx(1.5), "usage": 3 / 8}


def test_perplexity_is_the_exponential_of_the_entropy() -> None:
    counts = torch.randint(1, 100, (3, 64), generator=torch.Generator().manual_seed(0)).float()
    entropy = torch.distributions.Categorical(probs=counts).entropy()
    torch.testing.assert_close(perplexity(counts), entropy.exp())
