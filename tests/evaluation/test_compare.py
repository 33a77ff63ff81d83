import statistics

import pytest

from narrows.evaluation.compare import Outcome, Trial, choose, spreads


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


def test_the_spread_is_the_sample_standard_deviation() -> None:
    found = spreads([{"bits": 1.0, "psnr": 20.0}, {"bits": 2.0, "psnr": 22.0}, {"bits": 4.5}])
    assert list(found) == ["bits"]
    assert found["bits"].mean == pytest.approx(2.5)
    assert found["bits"].deviation == pytest.approx(statistics.stdev([1, 2, 4.5]))
    assert str(found["bits"]) == "2.5 ± 1.8"


def test_one_seed_has_no_spread() -> None:
    assert spreads([{"bits": 1.25}])["bits"] == (1.25, None)
    assert str(spreads([{"bits": 1.25}])["bits"]) == "1.25"
