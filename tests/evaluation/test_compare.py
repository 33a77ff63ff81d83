import math
import statistics

import pytest

from narrows.evaluation.compare import Outcome, Trial, choose, spreads, sweep_end


def test_each_method_is_given_its_best_learning_rate() -> None:
    figures = {("a", 1e-3): 2.0, ("a", 2e-3): 1.0, ("b", 1e-3): 3.0, ("b", 2e-3): 4.0}
    outcomes = [Outcome(Trial(method, rate, 0), {"bits": bits}) for (method, rate), bits in figures.items()]
    assert choose(outcomes, "bits") == {"a": 2e-3, "b": 1e-3}


def test_a_trial_that_diverged_is_never_chosen() -> None:
    outcomes = [
        Outcome(Trial("a", 1e-3, 0), {"bits": 9.0}),
        Outcome(Trial("a", 1e-1, 0), None),
        Outcome(Trial("b", 1e-1, 0), None),
    ]
    assert choose(outcomes, "bits") == {"a": 1e-3}


def test_a_criterion_that_is_not_finite_is_never_chosen() -> None:
    found = {1e-4: math.nan, 1e-3: 9.0, 1e-2: -math.inf}
    outcomes = [Outcome(Trial("a", rate, 0), {"bits": bits}) for rate, bits in found.items()]
    assert choose(outcomes, "bits") == {"a": 1e-3}
    assert choose(outcomes[:1], "bits") == {}


@pytest.mark.parametrize(
    ("rates", "rate", "end"),
    [
        ([1e-3, 1e-2, 1e-1], 1e-3, "lowest"),
        ([1e-1, 1e-3, 1e-2], 1e-1, "highest"),
        ([1e-1, 1e-3, 1e-2], 1e-2, ""),
        ([1e-2], 1e-2, "only"),
    ],
)
def test_the_end_of_a_sweep(rates: list[float], rate: float, end: str) -> None:
    outcomes = [Outcome(Trial("a", tried, 0), {"bits": 1.0}) for tried in rates]
    assert sweep_end([*outcomes, Outcome(Trial("b", 1e-9, 0), None), Outcome(Trial("b", 9, 0), None)], "a", rate) == end


def test_a_rate_below_one_that_diverged_is_no_end() -> None:
    outcomes = [Outcome(Trial("a", 1e-3, 0), None), Outcome(Trial("a", 1e-2, 0), {}), Outcome(Trial("a", 1, 0), None)]
    assert sweep_end(outcomes, "a", 1e-2) == ""


def test_the_spread_is_the_sample_standard_deviation() -> None:
    found = spreads([{"bits": 1.0, "psnr": 20.0}, {"bits": 2.0, "psnr": 22.0}, {"bits": 4.5}])
    assert list(found) == ["bits"]
    assert found["bits"].mean == pytest.approx(2.5)
    assert found["bits"].deviation == pytest.approx(statistics.stdev([1, 2, 4.5]))
    assert str(found["bits"]) == "2.5 ± 1.8"


def test_one_seed_has_no_spread() -> None:
    assert spreads([{"bits": 1.25}])["bits"] == (1.25, None)
    assert str(spreads([{"bits": 1.25}])["bits"]) == "1.25"
