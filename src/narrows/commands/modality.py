"""What differs between kinds of data where models are trained, measured and shown: one class for each kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from narrows.data import Clips, Images, to_unit, to_waveform
from narrows.errors import NarrowsError
from narrows.estimators import Estimator
from narrows.evaluation import Measurement, gradient_noise, measure, measure_sound, speakers_of
from narrows.models import Autoencoder, SoundAutoencoder
from narrows.priors import CodeSpec
from narrows.progress import progress
from narrows.report.run import report_run
from narrows.report.sound_run import report_sound_run
from narrows.training.run import RunFolder
from narrows.training.settings import TrainingSettings
from narrows.training.tasks import AutoencoderTask, SoundTask

__all__ = ["Modality", "modality_of"]

ENCODED_AT_ONCE = 256
SAMPLES = 64
"""S of the importance-weighted bound, where nothing is said."""


class Modality(ABC):
    """A kind of data, and how models of it are used.

    Attributes:
        unit: what an example is called, in the plural.
    """

    unit: str

    @abstractmethod
    def task(self, model: Any, estimator: Estimator) -> AutoencoderTask:
        """What training minimises."""

    @abstractmethod
    def rehearsal(self, model: Any) -> tuple[Tensor, ...]:
        """A small batch of blank examples, as they are stored."""

    @abstractmethod
    def measure(self, model: Any, part: Any, samples: int | None, advance: Callable[[int], None]) -> Measurement:
        """The figures of a model on a split; the importance-weighted bound takes `samples` latents of each example."""

    @abstractmethod
    def measured_with(self, samples: int | None) -> dict[str, Any]:
        """What a measurement says it was made with."""

    @abstractmethod
    def validate(self, model: Any, estimator: Estimator, part: Any, settings: TrainingSettings) -> dict[str, float]:
        """The figures that training is watched by."""

    @abstractmethod
    def code_spec(self, model: Any, window: int | None) -> CodeSpec:
        """The codes that a prior is fitted to; `window` is the setting of its recipe."""

    @abstractmethod
    def codes(self, model: Any, part: Any, spec: CodeSpec, quiet: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """The codes of a split, [N, *grid] or [N, *grid, M] in the smallest integer type, and their labels [N]."""

    @abstractmethod
    def report(self, run: RunFolder, data: Any, device: torch.device) -> None:
        """Write the report of a run, measured on `device`."""


class _OfImages(Modality):
    unit = "images"

    def task(self, model: Autoencoder, estimator: Estimator) -> AutoencoderTask:
        return AutoencoderTask(model, estimator)

    def rehearsal(self, model: Autoencoder) -> tuple[Tensor, ...]:
        return (torch.zeros(1, *model.shape, dtype=torch.uint8),)

    def measure(
        self, model: Autoencoder, part: Images, samples: int | None, advance: Callable[[int], None]
    ) -> Measurement:
        return measure(model, part, samples or SAMPLES, advance=advance)

    def measured_with(self, samples: int | None) -> dict[str, Any]:
        return {"samples": samples or SAMPLES}

    def validate(
        self, model: Autoencoder, estimator: Estimator, part: Images, settings: TrainingSettings
    ) -> dict[str, float]:
        figures = measure(model, part).figures
        if settings.gradient_draws:
            pixels = torch.from_numpy(part.subset(settings.batch_size).pixels)
            x = to_unit(pixels.to(next(model.parameters()).device))
            figures |= gradient_noise(model, estimator, x, settings.gradient_draws)
        return figures

    def code_spec(self, model: Autoencoder, window: int | None) -> CodeSpec:
        if window is not None:
            raise NarrowsError(f"window is {window}: a prior models the codes of a whole image; leave it out")
        return model.codes

    def codes(
        self, model: Autoencoder, part: Images, spec: CodeSpec, quiet: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        if not isinstance(part, Images):
            raise NarrowsError(
                "a prior is fitted to the codes of a whole data set, not of a stream: set --data to a fetched one"
            )
        device = next(model.parameters()).device
        parts = []
        with progress("encode", len(part), "images", quiet=quiet) as meter:
            for start in range(0, len(part), ENCODED_AT_ONCE):
                pixels = torch.from_numpy(part.pixels[start : start + ENCODED_AT_ONCE].copy())
                parts.append(_narrow(model.encode(to_unit(pixels.to(device))), spec))
                meter.advance(len(pixels))
        return np.concatenate(parts), part.labels

    def report(self, run: RunFolder, data: Any, device: torch.device) -> None:
        report_run(run, data, device)


class _OfSound(Modality):
    unit = "clips"

    def task(self, model: SoundAutoencoder, estimator: Estimator) -> AutoencoderTask:
        return SoundTask(model, estimator)

    def rehearsal(self, model: SoundAutoencoder) -> tuple[Tensor, ...]:
        window = model.shape[1]
        return torch.zeros(2, window, dtype=torch.int16), torch.full((2,), window), torch.zeros(2, dtype=torch.long)

    def measure(
        self, model: SoundAutoencoder, part: Clips, samples: int | None, advance: Callable[[int], None]
    ) -> Measurement:
        if samples is not None:
            raise NarrowsError(f"--samples {samples}: sound is measured by the ELBO alone; leave it out")
        return measure_sound(model, part, advance)

    def measured_with(self, samples: int | None) -> dict[str, Any]:
        return {}

    def validate(
        self, model: SoundAutoencoder, estimator: Estimator, part: Clips, settings: TrainingSettings
    ) -> dict[str, float]:
        figures = measure_sound(model, part).figures
        if settings.gradient_draws:
            with part.batches(settings.batch_size, settings.seed) as batches:
                device = next(model.parameters()).device
                samples, lengths, speakers = (values.to(device) for values in next(batches))
            given = {"speakers": speakers.where(speakers < len(model.classes), -1), "lengths": lengths}
            x = to_waveform(samples).unsqueeze(1)
            figures |= gradient_noise(model, estimator, x, settings.gradient_draws, **given)
        return figures

    def code_spec(self, model: SoundAutoencoder, window: int | None) -> CodeSpec:
        if window is not None and window < 1:
            raise NarrowsError(f"window is {window}: it must be at least 1 code")
        return model.codes_of(window or model.grid[0])

    def codes(
        self, model: SoundAutoencoder, part: Clips, spec: CodeSpec, quiet: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        (length,) = spec.grid
        longest = -(-int(part.lengths.max()) // model.hop)
        if length > longest:
            raise NarrowsError(
                f"window is {length} codes, but the longest clip of a split has {longest}: set it to {longest} or less"
            )
        device = next(model.parameters()).device
        codes, labels = [], []
        with progress("encode", len(part), "clips", quiet=quiet) as meter:
            for index, speaker in enumerate(speakers_of(model, part).tolist()):
                meter.advance()
                if speaker < 0:
                    continue
                x = part.clip(index).to(device).view(1, 1, -1)
                whole = model.encode(F.pad(x, (0, max(0, length * model.hop - x.shape[2]))))
                windows = list(_windows(_narrow(whole, spec)[0], length))
                codes += windows
                labels += [speaker] * len(windows)
        if not codes:
            raise NarrowsError("there is no clip of a speaker that the model was trained on, whose codes to learn")
        return np.stack(codes), np.array(labels)

    def report(self, run: RunFolder, data: Any, device: torch.device) -> None:
        report_sound_run(run, data, device)


def modality_of(model: Autoencoder) -> Modality:
    """The kind of data that a model is of."""
    return _OfSound() if isinstance(model, SoundAutoencoder) else _OfImages()


def _narrow(codes: Tensor, spec: CodeSpec) -> np.ndarray:
    return codes.cpu().numpy().astype(np.min_scalar_type(spec.codebook_size - 1))


def _windows(codes: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Windows of the codes [N, ...] of a clip, which overlap by half or, the last, by more."""
    for start in range(0, len(codes) - length, max(1, length // 2)):
        yield codes[start : start + length]
    yield codes[len(codes) - length :]
