from typing import Any

import pytest
import torch

from narrows.errors import NarrowsError
from narrows.priors import CodeSpec, WaveNetPrior

K = 5


def build(grid: tuple[int, ...] = (24,), codebooks: int = 1, classes: int = 0, **settings: Any) -> WaveNetPrior:
    torch.manual_seed(0)
    settings = {"channels": 8, "skip_channels": 16, "stacks": 1, "layers": 3, **settings}
    return WaveNetPrior(CodeSpec(grid, codebooks, K, classes), **settings).double()


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


def test_the_network_reads_a_level_of_each_codebook_the_place_and_the_label_as_one_hot_vectors() -> None:
    positions, codebooks, classes = 4, 3, 2
    prior = build((positions,), codebooks, classes)
    codes, labels = torch.randint(K, (2, positions, codebooks)), torch.tensor([1, 0])
    levels = torch.zeros(2, codebooks * K, positions * codebooks).double()
    places = torch.zeros(2, codebooks, positions * codebooks).double()
    classes_of = torch.zeros(2, classes).double()
    for b in range(2):
        classes_of[b, labels[b]] = 1
        for n in range(positions):
            for m in range(codebooks):
                levels[b, m * K + codes[b, n, m], n * codebooks + m] = 1
                places[b, m, n * codebooks + m] = 1
    outputs = prior.network(levels, places, classes_of)
    expected = torch.stack([outputs[..., m::codebooks] for m in range(codebooks)], 3).permute(0, 2, 3, 1)
    torch.testing.assert_close(prior.logits(codes, labels), expected, rtol=0, atol=1e-12)


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
