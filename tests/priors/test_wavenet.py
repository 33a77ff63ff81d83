from typing import Any

import pytest
import torch

from narrows.errors import NarrowsError
from narrows.priors import CodeSpec, Condition, WaveNetPrior
from tests.priors.helpers import feature_influence

K = 5


def build(
    grid: tuple[int, ...] = (24,), codebooks: int = 1, classes: int = 0, features: int = 0, **settings: Any
) -> WaveNetPrior:
    torch.manual_seed(0)
    settings = {"channels": 8, "skip_channels": 16, "stacks": 1, "layers": 3, **settings}
    return WaveNetPrior(CodeSpec(grid, codebooks, K, classes, features), **settings).double()


@pytest.mark.parametrize(
    ("settings", "reach"), [({}, 8), ({"stacks": 2, "layers": 2}, 7), ({"kernel_size": 3, "layers": 2}, 7)]
)
@pytest.mark.parametrize(("positions", "codebooks"), [(24, 1), (8, 3)])
def test_logits_depend_on_the_codes_of_the_receptive_field_and_on_nothing_else(
    positions: int, codebooks: int, settings: dict[str, int], reach: int
) -> None:
    prior = build((positions,), codebooks, **settings)
    codes = torch.randint(K, (prior.length,)).repeat(prior.length + 1, 1)
    n = torch.arange(prior.length)
    codes[n, n] = (codes[n, n] + 1) % K  # example n has another code n; the last example is unchanged
    with torch.no_grad():
        logits = prior.logits(codes.view(-1, *prior.code_shape)).view(-1, prior.length, K)
    influence = (logits[:-1] - logits[-1]).abs().amax(-1) > 1e-12
    later = n - n[:, None]
    assert torch.equal(influence, (later >= 1) & (later <= reach))


@pytest.mark.parametrize(
    ("settings", "back"),
    [
        ({}, {0, 2, 4, 6}),
        ({"stacks": 2, "layers": 2}, {0, 1, 2, 3, 4, 5}),
        ({"kernel_size": 3, "layers": 2}, {0, 2, 4}),
    ],
)
@pytest.mark.parametrize("codebooks", [1, 3])
def test_logits_depend_on_the_features_that_the_layers_after_the_first_read(
    codebooks: int, settings: dict[str, int], back: set[int]
) -> None:
    prior = build((8,), codebooks, features=2, **settings)
    n = torch.arange(prior.length)
    codes = torch.isin(n - n[:, None], torch.tensor(sorted(back)))
    assert torch.equal(feature_influence(prior), codes.view(8, codebooks, 8, codebooks).any(1))


@pytest.mark.parametrize("features", [0, 2])
def test_the_network_reads_levels_codebooks_and_labels_as_one_hot_vectors_and_features_of_positions(
    features: int,
) -> None:
    positions, codebooks, classes = 4, 3, 2
    prior = build((positions,), codebooks, classes, features)
    given = torch.randn(2, features, positions).double()
    codes, labels = torch.randint(K, (2, positions, codebooks)), torch.tensor([1, 0])
    levels = torch.zeros(2, codebooks * K, positions * codebooks).double()
    local = torch.zeros(2, codebooks + features, positions * codebooks).double()
    classes_of = torch.zeros(2, classes).double()
    for b in range(2):
        classes_of[b, labels[b]] = 1
        for n in range(positions):
            for m in range(codebooks):
                levels[b, m * K + codes[b, n, m], n * codebooks + m] = 1
                local[b, m, n * codebooks + m] = 1
                local[b, codebooks:, n * codebooks + m] = given[b, :, n]
    outputs = prior.network(levels, local, classes_of)
    expected = torch.stack([outputs[..., m::codebooks] for m in range(codebooks)], 3).permute(0, 2, 3, 1)
    condition = Condition(labels, given if features else None)
    torch.testing.assert_close(prior.logits(codes, condition), expected, rtol=0, atol=1e-12)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(NarrowsError, match=r"got \(4, 5\): use GatedPixelCNN or TransformerPrior"):
        build((4, 5))
    for grid in ((), (2, 3, 4)):
        with pytest.raises(NarrowsError, match=r"a grid \(positions,\), .*: use TransformerPrior"):
            build(grid)
    with pytest.raises(NarrowsError, match="layers must be at least 1, not 0"):
        build(layers=0)


def test_a_previous_code_of_another_batch_is_refused() -> None:
    prior = build()
    state = prior.begin(2)
    prior.step(state, None)
    with pytest.raises(NarrowsError, match=r"or its level, \[2\], not \[3\]"):
        prior.step(state, torch.tensor([0, 1, 2]))
