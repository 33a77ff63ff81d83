from types import SimpleNamespace
from typing import Any

import pytest

from narrows.data import DataError
from narrows.data.limits import require_at_least, require_positive, require_rest, require_shares


def settings(**changed: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"window": 1, "rate": None, "validation": 0.1, "test": 0.0, "rare": 0.5} | changed)


def check(own: SimpleNamespace) -> None:
    require_at_least(own, {"window": 1})
    require_positive(own, ["rate"])
    require_shares(own, ("validation", "test", "rare"))
    require_rest(own)


@pytest.mark.parametrize("changed", [{}, {"window": None}, {"rate": 0.5}, {"validation": 0.9, "test": 0.09}])
def test_settings_within_their_limits_pass(changed: dict[str, Any]) -> None:
    check(settings(**changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"window": 0}, "data.window is 0: it must be at least 1"),
        ({"rate": 0.0}, "data.rate is 0.0: it must be a positive number"),
        ({"rate": float("inf")}, "data.rate is inf: it must be a positive number"),
        ({"test": 1.0}, "data.test is 1.0: it must be at least 0 and less than 1"),
        ({"rare": -0.1}, "data.rare is -0.1: it must be at least 0 and less than 1"),
        ({"validation": 0.5, "test": 0.5}, "data.validation is 0.5 and data.test 0.5, which hold out everything"),
    ],
)
def test_the_first_setting_beyond_its_limit_is_named(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check(settings(**changed))
