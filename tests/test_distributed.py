"""Draws of rows of the global batch: distinct, uniform, and blind to rows that do not count."""

from __future__ import annotations

import pytest
import torch

from narrows.distributed import _scrambled, global_rows


def test_scrambled_numbers_are_distinct_and_spread() -> None:
    numbers = _scrambled(torch.arange(2**20))
    assert len(numbers.unique()) == 2**20
    assert numbers.min() >= 0
    assert numbers.max() < 2**32
    for bit in range(32):
        assert abs((numbers >> bit & 1).float().mean() - 0.5) < 0.005


@pytest.mark.parametrize(("total", "count"), [(50, 7), (7, 7), (3, 7), (0, 7)])
def test_rows_are_distinct_ones_that_count(total: int, count: int) -> None:
    rows = torch.arange(1.0, 2 * total + 1).unsqueeze(1).expand(-1, 3).contiguous()
    counted = torch.arange(2 * total) % 2 == 0
    rows[~counted] = torch.nan
    drawn, found = global_rows(rows, counted, count, torch.tensor(5))
    assert found.tolist() == [place < total for place in range(count)]
    kept = drawn[found, 0].tolist()
    assert len(set(kept)) == min(total, count)
    assert set(kept) <= set(rows[counted, 0].tolist())
    assert torch.equal(drawn[~found], torch.zeros(count - len(kept), 3))


def test_what_does_not_count_changes_no_draw() -> None:
    rows = torch.randn(40, 2)
    alone, _ = global_rows(rows, torch.ones(40, dtype=torch.bool), 9, torch.tensor(3))
    places = torch.randperm(100)[:40].sort().values
    among, counted = torch.full((100, 2), torch.inf), torch.zeros(100, dtype=torch.bool)
    among[places], counted[places] = rows, True
    assert torch.equal(global_rows(among, counted, 9, torch.tensor(3))[0], alone)


def test_every_row_is_as_likely_at_every_place() -> None:
    rows, counted, draws = torch.arange(10.0).unsqueeze(1), torch.ones(10, dtype=torch.bool), 4000
    drawn = torch.stack([global_rows(rows, counted, 3, torch.tensor(seed))[0][:, 0] for seed in range(draws)]).long()
    for place in range(3):
        shares = drawn[:, place].bincount(minlength=10) / draws
        assert (shares - 0.1).abs().max() < 5 * (0.09 / draws) ** 0.5
    pairs = (drawn[:, 0] * 10 + drawn[:, 1]).bincount(minlength=100).view(10, 10) / draws
    off_diagonal = pairs[~torch.eye(10, dtype=torch.bool)]
    assert (off_diagonal - 1 / 90).abs().max() < 5 * (1 / 90 / draws) ** 0.5
