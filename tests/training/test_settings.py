import math

import pytest

from narrows.training.settings import TrainingSettings


def test_warm_up_is_linear_and_the_cosine_ends_near_zero() -> None:
    settings = TrainingSettings(steps=110, warmup=10, decay="cosine", learning_rate=1.0)
    assert [settings.learning_rate_at(step) for step in (1, 5, 10)] == [0.1, 0.5, 1.0]
    assert settings.learning_rate_at(11) == 1.0
    assert settings.learning_rate_at(61) == pytest.approx(0.5)
    assert settings.learning_rate_at(110) == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.99)))


def test_without_decay_the_rate_stays() -> None:
    settings = TrainingSettings(steps=10, learning_rate=0.3)
    assert {settings.learning_rate_at(step) for step in range(1, 11)} == {0.3}


@pytest.mark.parametrize("name", ["steps", "batch_size", "keep"])
def test_nonsense_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"training.{name} is 0"):
        TrainingSettings(**{name: 0})
