import math
from typing import Any

import pytest

from narrows.errors import NarrowsError
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


def test_the_cosine_ends_at_the_final_rate() -> None:
    settings = TrainingSettings(steps=101, decay="cosine", learning_rate=1.0, final_learning_rate=0.2)
    assert settings.learning_rate_at(1) == 1
    assert settings.learning_rate_at(51) == pytest.approx(0.2 + 0.8 * (1 + math.cos(math.pi * 50 / 101)) / 2)
    assert 0.2 < settings.learning_rate_at(101) < 0.201


def test_the_step_falls_once() -> None:
    settings = TrainingSettings(
        steps=10, warmup=2, decay="step", decay_at=5, learning_rate=1.0, final_learning_rate=0.5
    )
    assert [settings.learning_rate_at(step) for step in range(1, 8)] == [0.5, 1, 1, 1, 1, 0.5, 0.5]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decay": "step"}, "decay_at is None, but training.decay is step"),
        ({"decay_at": 5}, "decay_at is 5, but training.decay is none"),
        ({"final_learning_rate": 1.0}, "final_learning_rate is 1.0"),
        ({"final_learning_rate": -1.0}, "final_learning_rate is -1.0"),
    ],
)
def test_decays_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(NarrowsError, match=message):
        TrainingSettings(**settings)
