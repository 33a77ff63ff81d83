"""What moves DAPS: one change at a time to a starting point, measured on validation sequences alone.

Every trial trains the networks of the recipe compare-motion on the same batches for the same number of steps. `base` is
DAPS with beta = 1 (the bound itself), an ESS target of 0.5, 8 samples and a decoder that learns from one of them; each
other trial differs from it in what its name says. Figures are those of one draw on up to 100 examples of the validation
split; the test split is never read. A finished trial is a line of the CSV file, and is not repeated with the same
source and overrides.

    python -m benchmarks.daps SOURCE --out trials.csv [--steps 400] [--seeds 0] [--only base beta-0.1] [--data.rate=30]
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from narrows.atomic import whole_file
from narrows.commands.source import open_data
from narrows.commands.train import built_with_seed
from narrows.data import Batch, BatchPlan
from narrows.estimators import DAPS, Estimator, Evidence
from narrows.evaluation import measure
from narrows.modalities import find_modality
from narrows.modalities.recipes import resolve_training
from narrows.models import Autoencoder
from narrows.progress import progress
from narrows.recipe import find_recipe
from narrows.training.tasks import AutoencoderTask

FIGURES = (
    "bits_per_dim",
    "distortion_bits_per_dim",
    "rate_bits_per_dim",
    "joint_angle_error",
    "joint_position_error",
    "perplexity",
    "usage",
)


BASE = {"beta": 1.0, "ess_target": 0.5, "samples": 8, "decoder_samples": 1}


class Normalised(DAPS):
    """DAPS whose advantages are divided by their standard deviation over the samples of an example."""

    @torch.no_grad()
    def target(self, evidence: Evidence) -> Any:
        """Return the target of normalised log-likelihoods, on the scale of their mean deviation in the batch."""
        deviation = evidence.log_likelihood.std(0).clamp_min(1e-6)
        scaled = evidence.log_likelihood * (deviation.mean() / deviation)
        return super().target(evidence._replace(log_likelihood=scaled))


@dataclass(frozen=True)
class Trial:
    """One setting.

    Args:
        variant: the method, a variant of the recipe.
        settings: arguments of its estimator; for DAPS, those that differ from `BASE`.
        estimator: class of the estimator; None for the variant's own.
        betas: Adam's decay rates.
        final_beta: weight of the entropy at the last step, to which it falls geometrically; None for no change.
        epochs: steps of the encoder on the samples of one batch; the further ones weigh the control variate by the
            importance ratios q(z|x) / q_old(z|x).
        decoder_first: first steps, in which the encoder does not learn.
    """

    variant: str = "daps"
    settings: Mapping[str, Any] = field(default_factory=dict)
    estimator: type[Estimator] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    final_beta: float | None = None
    epochs: int = 1
    decoder_first: int = 0


TRIALS: dict[str, Trial] = {
    "all-samples": Trial(settings={"decoder_samples": None}),
    "base": Trial(),
    "beta-0.1": Trial(settings={"beta": 0.1}),
    "beta-0.01": Trial(settings={"beta": 0.01}),
    "beta-falls-1-to-0.01": Trial(final_beta=0.01),
    "ess-0.9": Trial(settings={"ess_target": 0.9}),
    "ess-0.3": Trial(settings={"ess_target": 0.3}),
    "normalised": Trial(estimator=Normalised),
    "samples-32": Trial(settings={"samples": 32}),
    "epochs-4": Trial(epochs=4),
    "epochs-4-beta-0.01": Trial(settings={"beta": 0.01}, epochs=4),
    "decoder-first-50": Trial(decoder_first=50),
    "adam-0.5": Trial(betas=(0.5, 0.999)),
    "no-control-variate": Trial(settings={"control_variate": False}),
    "written": Trial(variant="daps-ar"),
    "fsq": Trial(variant="fsq"),
    "vae": Trial(variant="vae"),
    "gumbel": Trial(variant="gumbel"),
    "gumbel-beta-0.1": Trial(variant="gumbel", settings={"beta": 0.1}),
    "gumbel-beta-0.01": Trial(variant="gumbel", settings={"beta": 0.01}),
    "reinforce": Trial(variant="reinforce"),
    "reinforce-beta-0.1": Trial(variant="reinforce", settings={"beta": 0.1}),
    "reinforce-beta-0.01": Trial(variant="reinforce", settings={"beta": 0.01}),
    "ess-0.7": Trial(settings={"ess_target": 0.7}),
    "samples-64": Trial(settings={"samples": 64}),
    "decoder-samples-2": Trial(settings={"decoder_samples": 2}),
}


class Sampled:
    """Steps of DAPS with the samples at hand, for several steps of the encoder on the same samples."""

    def __init__(self, model: Autoencoder, estimator: DAPS) -> None:
        self.model, self.estimator = model, estimator

    def first(self, batch: Batch) -> tuple[Tensor, Callable[[], Tensor]]:
        """Return the loss of encoder and decoder, [], and a function that returns that of a further encoder step."""
        posterior = self._posterior(batch)
        codes = posterior.sample(self.estimator.samples)
        old = posterior.log_prob(codes)
        learnt = self._log_likelihood(batch, codes[: self.estimator.decoder_samples])
        with torch.no_grad():
            rest = self._log_likelihood(batch, codes[self.estimator.decoder_samples :])
        likelihood = torch.cat([learnt.detach(), rest])
        evidence = Evidence(likelihood, old.detach(), torch.zeros_like(old), old[0], batch.x)
        weights = self.estimator.target(evidence).weights
        dimensions = batch.x[0].numel()

        def further() -> Tensor:
            new = self._posterior(batch).log_prob(codes)
            ratios = (new - old).detach().exp() * self.estimator.uniform
            return -((weights - ratios) * new).sum(0).mean() / dimensions

        encoder = -((weights - self.estimator.uniform) * old).sum(0)
        return (encoder - learnt.mean(0)).mean() / dimensions, further

    def _posterior(self, batch: Batch) -> Any:
        return self.estimator.require_sampled(self.model.posterior(batch.x))

    def _log_likelihood(self, batch: Batch, codes: Tensor) -> Tensor:
        z = self.model.bottleneck.embed(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
        return self.model.log_likelihood(batch, z)


def run(trial: Trial, seed: int, steps: int, source: str, overrides: list[str]) -> dict[str, float]:
    """Train one trial and return its validation figures and the seconds of processor time of its training."""
    recipe = find_recipe("compare-motion")
    fixed = [f"--data.source={source}", f"--training.steps={steps}", f"--training.seed={seed}", *overrides]
    given = (BASE if trial.variant.startswith("daps") else {}) | dict(trial.settings)
    fixed += [f"--estimator.{name}={'null' if value is None else value}" for name, value in given.items()]
    if trial.variant == "gumbel":
        fixed.append(f"--estimator.annealing_steps={steps}")
    built = built_with_seed(resolve_training(recipe.variant(trial.variant), fixed, "compare-motion"))
    modality = find_modality(built.modality)
    data = open_data(modality, built.data, progress, quiet=True)
    model, estimator = built.model(data.spec), built.estimator
    if trial.estimator is not None:
        assert isinstance(estimator, DAPS)
        estimator = trial.estimator(**given)
    task = AutoencoderTask(model, estimator, data.train.batch).train()
    optimizer = torch.optim.Adam(task.parameters(), built.training.learning_rate, trial.betas)
    sampled = Sampled(model, estimator) if trial.epochs > 1 and isinstance(estimator, DAPS) else None
    encoder = [*model.encoder.parameters(), *_inference(model)]
    start = getattr(estimator, "beta", 1.0)
    torch.manual_seed(seed)
    began = time.process_time()
    with data.train.batches(BatchPlan(built.training.batch_size, seed)) as batches, progress("train", steps) as meter:
        for step in range(1, steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = built.training.learning_rate_at(step)
            if trial.final_beta is not None:
                estimator.beta = start * (trial.final_beta / start) ** (step / steps)
            stored = next(batches)
            further: Callable[[], Tensor] | None = None
            if sampled is None:
                loss = task(*stored)[0]
            else:
                loss, further = sampled.first(data.train.batch(*stored))
            loss.backward()
            if step <= trial.decoder_first:
                for weight in encoder:
                    weight.grad = None
            optimizer.step()
            for _ in range(trial.epochs - 1):
                optimizer.zero_grad()
                assert further is not None
                further().backward()
                optimizer.step()
            optimizer.zero_grad()
            meter.advance()
    seconds = time.process_time() - began
    validation = data.validation.subset(built.training.validation_examples).numbered(model.classes)
    found = measure(model, validation, figures=partial(modality.figures, spec=model.spec)).figures
    return {**{name: found[name] for name in FIGURES if name in found}, "seconds": seconds}


def _inference(model: Autoencoder) -> list[torch.nn.Parameter]:
    """Return the weights of the bottleneck that only the encoder's loss trains: all but the embeddings."""
    return [weight for name, weight in model.bottleneck.named_parameters() if name != "embeddings"]


def main() -> None:
    """Run the trials that the table lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=TRIALS, default=list(TRIALS))
    options, overrides = parser.parse_known_args()
    names = ["trial", "seed", "steps", "data", *FIGURES, "seconds"]
    rows = list(csv.DictReader(options.out.open())) if options.out.exists() else []
    done = {(row["trial"], row["seed"], row["steps"], row.get("data")) for row in rows}
    data = sha256("\n".join([options.source, *overrides]).encode()).hexdigest()[:8]
    for seed in options.seeds:
        for name in options.only:
            key = (name, str(seed), str(options.steps), data)
            if key in done:
                continue
            found = run(TRIALS[name], seed, options.steps, options.source, overrides)
            rows.append({**dict(zip(names, key, strict=False)), **{n: f"{value:.5g}" for n, value in found.items()}})
            with whole_file(options.out) as aside, aside.open("w", newline="") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(rows)
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
