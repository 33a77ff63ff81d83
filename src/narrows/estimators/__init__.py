"""How a bound's gradient is found: one estimator a file."""

from narrows.estimators.evidence import Estimator, Evidence, elbo, importance_weighted_bound
from narrows.estimators.pathwise import ImportanceWeighted, Pathwise

__all__ = ["Estimator", "Evidence", "ImportanceWeighted", "Pathwise", "elbo", "importance_weighted_bound"]
