"""Observation models p(x|z): they map decoder outputs to log-probabilities in nats, means and samples."""

from narrows.likelihoods.bernoulli import Bernoulli
from narrows.likelihoods.categorical import Categorical
from narrows.likelihoods.density import GaussianDensityFixed, GaussianDensityShared
from narrows.likelihoods.gaussian import GaussianCalibrated, GaussianFixed, GaussianPerDimension, GaussianShared
from narrows.likelihoods.likelihood import DiscreteLikelihood, Likelihood, Observation
from narrows.likelihoods.logistic import DiscretizedLogistic
from narrows.likelihoods.mixture import DiscretizedLogisticMixture
from narrows.likelihoods.mulaw import MuLawCategorical, compand, mu_law_decode, mu_law_encode

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiscreteLikelihood",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "GaussianCalibrated",
    "GaussianDensityFixed",
    "GaussianDensityShared",
    "GaussianFixed",
    "GaussianPerDimension",
    "GaussianShared",
    "Likelihood",
    "MuLawCategorical",
    "Observation",
    "compand",
    "mu_law_decode",
    "mu_law_encode",
]
