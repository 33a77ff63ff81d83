"""The negative ELBO with a KL whose weight rises, and of which a part is free."""

import pytest
import torch

from narrows.errors import NarrowsError
from narrows.estimators import DistortionTarget, Evidence, Pathwise

RATE, LIKELIHOOD = torch.tensor([1.0, 5.0]), torch.tensor([[-2.0, -3.0]])
EVIDENCE = Evidence(LIKELIHOOD, torch.zeros(1, 2), torch.zeros(1, 2), RATE, torch.zeros(2, 1))


def test_the_weight_of_the_rate_rises_to_beta_in_training_and_is_beta_otherwise() -> None:
    estimator = Pathwise(beta=2.0, warmup=4)
    weights = [((estimator(EVIDENCE) + LIKELIHOOD[0]) / RATE).tolist() for _ in range(6)]
    assert [first for first, _ in weights] == [second for _, second in weights] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    fresh = Pathwise(beta=2.0, warmup=4).eval()
    assert torch.equal(fresh(EVIDENCE), 2 * RATE - LIKELIHOOD[0])


def test_the_warm_up_goes_on_where_a_saved_run_stopped() -> None:
    first, second = Pathwise(warmup=10), Pathwise(warmup=10)
    for _ in range(3):
        first(EVIDENCE)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second(EVIDENCE), first(EVIDENCE))
    assert not Pathwise().state_dict()


def test_the_first_nats_of_each_example_are_free() -> None:
    rate = RATE.clone().requires_grad_()
    loss = Pathwise(free_nats=3.0)(EVIDENCE._replace(rate=rate))
    assert torch.equal(loss, torch.tensor([3.0, 5.0]) - LIKELIHOOD[0])
    loss.sum().backward()
    assert rate.grad is not None
    assert rate.grad.tolist() == [0, 1]


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(NarrowsError, match="warmup is -1"):
        Pathwise(warmup=-1)
    with pytest.raises(NarrowsError, match=r"free_nats is -0\.5"):
        Pathwise(free_nats=-0.5)
    for estimator in (Pathwise(warmup=5), Pathwise(free_nats=1.0)):
        with pytest.raises(NarrowsError, match="only the multiplier may weight the rate"):
            DistortionTarget(1.0, estimator)
