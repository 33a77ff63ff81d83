"""The search on a table of probabilities, where enumeration gives the best codes, and on a standard normal prior."""

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.modalities.motion.goals import Costs
from narrows.modalities.motion.proposals import Candidates, CodeProposals, LatentProposals
from narrows.modalities.motion.search import SearchSettings, search, weights_of
from narrows.priors import CodeSpec, Prior
from narrows.priors.condition import Condition
from narrows.sampling import Sampling

LENGTH, SIZE = 6, 8


class Chain(Prior):
    """A Markov chain over codes, in which half of the steps from one code to another have probability zero."""

    def __init__(self, classes: int = 0) -> None:
        super().__init__(CodeSpec((LENGTH,), 1, SIZE, classes))
        logits = torch.randn(SIZE + 1, SIZE, generator=torch.Generator().manual_seed(1))
        steps = torch.arange(SIZE) - torch.arange(SIZE + 1).unsqueeze(1)
        allowed = (steps % SIZE < SIZE // 2) | (torch.arange(SIZE + 1) == SIZE).unsqueeze(1)
        self.table = torch.nn.Parameter(logits, requires_grad=False)
        self.register_buffer("allowed", allowed)

    def rows(self, previous: Tensor) -> Tensor:
        return self.table[previous].masked_fill(~self.allowed[previous], -torch.inf)

    def logits(self, codes: Tensor, condition: Condition | Tensor | None = None) -> Tensor:
        codes = self.check_codes(codes).squeeze(-1)
        return self.rows(torch.cat([torch.full_like(codes[:, :1], SIZE), codes[:, :-1]], 1)).unsqueeze(2)

    def begin(
        self, batch: int, condition: Condition | Tensor | None = None, past: Tensor | None = None
    ) -> tuple[int, ...]:
        self.check_condition(condition, batch)
        return (batch,)

    def step(self, state: tuple[int, ...], previous: Tensor | None) -> Tensor:
        return self.rows(torch.full(state, SIZE) if previous is None else previous)


PRIOR = Chain()
ALL = torch.tensor(list(product(range(SIZE), repeat=LENGTH)))
NEAR = torch.tensor([0, 3, 5, 0, 2, 4])
WEIGHTS = torch.tensor([5.0, 4.0, 3.0, 3.0, 2.0, 1.0])


def distance(codes: Tensor) -> np.ndarray:
    """A rugged cost: the distance from codes that the chain cannot write, and a term that couples neighbours."""
    apart = ((codes - NEAR).abs() * WEIGHTS).sum(1)
    return (apart + (codes[:, 1:] * codes[:, :-1] % 7).sum(1) / 4).double().numpy()


def costs_of(candidates: Candidates) -> Costs:
    total = distance(candidates.z)
    return Costs(total, {"distance": total})


def proposals(top_p: float | None = None) -> CodeProposals:
    return CodeProposals(PRIOR, Sampling(top_p=top_p))


def bits(codes: Tensor) -> Tensor:
    return -PRIOR.log_prob(codes) / np.log(2)


@pytest.mark.parametrize("support", [0.0, 2.0])
def test_the_best_codes_are_found_with_far_fewer_decodings_than_enumeration(support: float) -> None:
    total = torch.from_numpy(distance(ALL)) + (support * bits(ALL).double() if support else 0)
    total = total.masked_fill(bits(ALL).isinf(), torch.inf)
    best = int(total.argmin())
    found = search(proposals(), costs_of, SearchSettings(4000, rounds=20, support=support))
    assert found.best[0].candidate.z.tolist() == [ALL[best].tolist()]
    assert found.rounds[-1].best == pytest.approx(float(total[best]), abs=1e-4)
    assert found.best[0].bits == pytest.approx(float(bits(ALL[best : best + 1])), abs=1e-4)
    assert found.decodings <= 4000 < 0.02 * len(ALL)
    costs = [one.cost + support * one.bits for one in found.best]
    assert costs == sorted(costs)


def test_codes_of_zero_probability_never_appear() -> None:
    seen: list[Tensor] = []

    def watched(candidates: Candidates) -> Costs:
        seen.append(candidates.z)
        torch.testing.assert_close(candidates.log_prior, PRIOR.log_prob(candidates.z).double(), atol=1e-4, rtol=0)
        return costs_of(candidates)

    search(proposals(), watched, SearchSettings(2000, rounds=10))
    codes = torch.cat(seen)
    assert PRIOR.log_prob(codes).isfinite().all()
    assert len(codes.unique(dim=0)) == len(codes)  # and none is decoded twice
    seen.clear()
    search(proposals(top_p=0.5), watched, SearchSettings(2000, rounds=10))
    logits = PRIOR.logits(torch.cat(seen)).squeeze(2)
    kept = Sampling(top_p=0.5).filter(logits).gather(2, torch.cat(seen).unsqueeze(2))
    assert kept.isfinite().all()


def test_the_weights_have_the_effective_sample_size_asked_for() -> None:
    found = search(proposals(), costs_of, SearchSettings(2000, rounds=10, ess_target=0.1))
    assert [one.ess for one in found.rounds] == pytest.approx([20] * 10, rel=1e-3)
    costs = torch.from_numpy(np.random.default_rng(0).exponential(30, 500))
    weights, temperature, ess = weights_of(costs, 25)
    torch.testing.assert_close(weights, (-costs / temperature).softmax(0))
    assert float(1 / weights.square().sum()) == pytest.approx(ess)
    assert ess == pytest.approx(25, rel=1e-3)
    weights, _, _ = weights_of(torch.tensor([1.0, torch.inf, 2.0]), 2)
    assert weights[1] == 0
    torch.testing.assert_close(weights_of(torch.ones(1), 5).weights, torch.ones(1, dtype=torch.float64))


def test_equal_seeds_give_equal_results() -> None:
    first, again, other = (
        search(proposals(), costs_of, SearchSettings(600, rounds=6, seed=seed)) for seed in (3, 3, 4)
    )
    assert first.rounds == again.rounds != other.rounds
    assert [one.cost for one in first.best] == [one.cost for one in again.best]


def test_proposals_are_a_mixture_of_the_prior_and_the_parents() -> None:
    """With p(z_1) = p_1 and a parent's first code c, q(z_1 = k) = (1 - w) p_1(k) + w [k = c]."""
    generator, n, w = torch.Generator().manual_seed(0), 40_000, 0.3
    parents = Candidates(torch.tensor([[2, 3, 4, 5, 6, 7]]).expand(n, -1), None, torch.zeros(n))
    codes = proposals().draw(n, generator, parents, torch.full((n,), w)).z
    expected = (1 - w) * PRIOR.rows(torch.tensor([SIZE])).softmax(1)[0]
    expected[2] += w
    torch.testing.assert_close(codes[:, 0].bincount(minlength=SIZE) / n, expected, atol=0.01, rtol=0)
    same = proposals().draw(n, generator, parents, torch.ones(n)).z
    torch.testing.assert_close(same, parents.z)


def test_candidates_have_a_class_that_their_children_inherit() -> None:
    prior, generator = Chain(classes=3), torch.Generator().manual_seed(0)
    drawn = CodeProposals(prior, Sampling(), 3).draw(300, generator)
    assert drawn.labels is not None
    assert set(drawn.labels.tolist()) == {0, 1, 2}
    child = CodeProposals(prior, Sampling(), 3).draw(300, generator, drawn, torch.full((300,), 0.5))
    assert child.labels is drawn.labels
    only = CodeProposals(prior, Sampling(), 3, label=2).draw(5, generator)
    assert only.labels is not None
    assert only.labels.tolist() == [2] * 5


def test_latents_keep_the_distribution_of_the_prior_and_reach_a_goal() -> None:
    generator = torch.Generator().manual_seed(0)
    source = LatentProposals((2, 3))
    parents = source.draw(50_000, generator)
    child = source.draw(50_000, generator, parents, torch.full((50_000,), 0.8))
    assert float(child.z.mean()) == pytest.approx(0, abs=0.01)
    assert float(child.z.var()) == pytest.approx(1, abs=0.01)
    assert float((child.z * parents.z).mean()) == pytest.approx(0.8, abs=0.01)
    normal = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(child.log_prior.float(), normal.log_prob(child.z).sum((1, 2)))

    def far(candidates: Candidates) -> Costs:
        total = (candidates.z - 1.5).flatten(1).norm(dim=1).double().numpy()
        return Costs(total, {"distance": total})

    ours, theirs = (search(source, far, SearchSettings(2000, rounds=rounds, support=0)) for rounds in (20, 1))
    assert ours.best[0].cost < 0.3 < theirs.best[0].cost


def test_costs_that_are_not_finite() -> None:
    def broken(candidates: Candidates) -> Costs:
        total = distance(candidates.z)
        total[candidates.z[:, 0].numpy() < 6] = np.nan
        return Costs(total, {"distance": total})

    assert search(proposals(), broken, SearchSettings(400, rounds=4)).best[0].candidate.z[0, 0] >= 6
    with pytest.raises(NarrowsError, match="no candidate has a finite cost"):
        search(proposals(), lambda one: Costs(np.full(len(one.z), np.nan), {}), SearchSettings(400, rounds=4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rounds": 0}, "rounds is 0: it must be at least 1"),
        ({"decodings": 20, "rounds": 16}, "decodings is 20: it must be at least 32"),
        ({"tilt": 1.5}, "tilt is 1.5: it must be at most 1"),
        ({"support": -1.0}, "support is -1.0: it must be at least 0"),
        ({"ess_target": 1.0}, "ess_target is 1.0: it must be between 0 and 1"),
    ],
)
def test_settings_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(NarrowsError, match=message):
        SearchSettings(**settings)  # type: ignore[arg-type]
