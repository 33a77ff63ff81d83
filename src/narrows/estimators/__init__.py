"""Gradient estimators of the bounds on log p(x), one estimator a file."""

from narrows.estimators.daps import DAPS
from narrows.estimators.distortion import DistortionTarget
from narrows.estimators.evidence import Estimator, Evidence, elbo, importance_weighted_bound
from narrows.estimators.pathwise import ImportanceWeighted, Pathwise
from narrows.estimators.rao_blackwell import GumbelRao
from narrows.estimators.reinforce import (
    REINFORCE,
    Baseline,
    LearnedBaseline,
    LeaveOneOut,
    MovingAverage,
    NoBaseline,
)
from narrows.estimators.relaxed import GumbelSoftmax, StraightThroughGumbel
from narrows.estimators.vimco import VIMCO

__all__ = [
    "DAPS",
    "REINFORCE",
    "VIMCO",
    "Baseline",
    "DistortionTarget",
    "Estimator",
    "Evidence",
    "GumbelRao",
    "GumbelSoftmax",
    "ImportanceWeighted",
    "LearnedBaseline",
    "LeaveOneOut",
    "MovingAverage",
    "NoBaseline",
    "Pathwise",
    "StraightThroughGumbel",
    "elbo",
    "importance_weighted_bound",
]
