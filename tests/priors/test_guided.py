import pytest
import torch

from narrows.errors import NarrowsError
from narrows.priors import CodeSpec, Condition, FramePixelCNN, Guided, TransformerPrior, continue_codes, guided
from narrows.sampling import Sampling
from tests.priors.helpers import codes_of, condition_of, stepped


def build(channels: int = 3, classes: int = 0, hidden: float = 0.1) -> FramePixelCNN:
    """A small prior in double precision in which features matter."""
    torch.manual_seed(0)
    spec = CodeSpec((4, 2, 3), 1, 5, classes, channels)
    prior = FramePixelCNN(spec, frames=2, context_width=8, blocks=2, layers=2, width=16, head_width=32, hidden=hidden)
    if prior.context.condition is not None:
        torch.nn.init.normal_(prior.context.condition.weight)
    return prior.double().eval()


@pytest.mark.parametrize("classes", [0, 2])
def test_codes_that_features_make_more_probable_are_drawn_more_often(classes: int) -> None:
    """p is proportional to p(code | features)^(1 + w) p(code | unknown)^-w, for each code given those before."""
    prior = build(classes=classes)
    codes, condition = codes_of(prior, 2), Condition.of(condition_of(prior, 2, by_frame=True))
    assert condition.features is not None
    unknown = Condition(condition.labels, torch.zeros_like(condition.features))
    with torch.no_grad():
        known, without = (prior.logits(codes, given).softmax(-1) for given in (condition, unknown))
        found = Guided(prior, 1.5).logits(codes, condition).softmax(-1)
    expected = known**2.5 * without**-1.5
    torch.testing.assert_close(found, expected / expected.sum(-1, keepdim=True))
    assert not torch.allclose(known, without, atol=0.01)


def test_steps_with_caches_equal_logits_of_all_codes() -> None:
    prior = Guided(build(), 2.0)
    codes, condition = codes_of(prior, 3), condition_of(prior, 3, by_frame=True)
    with torch.no_grad():
        together = prior.logits(codes, condition).view(3, prior.length, -1)
    torch.testing.assert_close(stepped(prior, codes, condition), together)
    past = codes.flatten(1)[:, :8]
    torch.testing.assert_close(prior.step(prior.begin(3, condition, past), None), together[:, 8])


def test_without_weight_the_prior_is_itself() -> None:
    prior = build()
    assert guided(prior, 0.0) is prior
    codes, condition = codes_of(prior, 2), condition_of(prior, 2, by_frame=True)
    torch.testing.assert_close(Guided(prior, 0.0).logits(codes, condition), prior.logits(codes, condition))
    longer, sampling = Condition(features=torch.randn(2, 3, 7, 1, 1).double()), Sampling(seed=1)
    one, other = (continue_codes(which, codes, 3, longer, sampling) for which in (prior, Guided(prior, 0.0)))
    assert torch.equal(one, other)


def test_priors_and_weights_that_cannot_guide_are_refused() -> None:
    with pytest.raises(NarrowsError, match="not conditioned on features"):
        guided(build(channels=0), 1.0)
    with pytest.raises(NarrowsError, match=r"never trained without its features.*prior.hidden above 0"):
        guided(build(hidden=0.0), 1.0)
    with pytest.raises(NarrowsError, match="a TransformerPrior, was never trained without"):
        guided(TransformerPrior(CodeSpec((4, 2), 1, 5, 0, 3), width=8, layers=1, heads=2), 1.0)
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(NarrowsError, match=f"guidance is {weight}"):
            guided(build(), weight)
