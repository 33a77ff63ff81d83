"""Features as models read them: less the mean of the training part, divided by its standard deviation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from narrows.errors import NarrowsError
from narrows.modalities.motion.formats import Format
from narrows.modalities.motion.series import TableFormat
from narrows.modalities.motion.skeletons import BvhFormat

__all__ = ["Standardised", "statistics"]

CONSTANT = 1e-4
"""Features whose standard deviation is at most this share of their root mean square count as constant."""
TINY = 1e-8
"""So do those with a smaller one, as rounding leaves it in zeros."""
FORMATS: dict[str, type[BvhFormat] | type[TableFormat]] = {"bvh": BvhFormat, "table": TableFormat}


@dataclass(frozen=True, eq=False)
class Standardised:
    """The conversion between files, features and model inputs of a data set.

    Args:
        format: the files.
        mean: mean of each feature, float32 [C].
        std: what each feature is divided by, float32 [C].
    """

    format: Format
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Standardised:
        """Return the conversion in the details of a model's `Spec`.

        Raises:
            NarrowsError: if they describe none, as in a file that was edited.
        """
        try:
            form = FORMATS[details["format"]].of_details(details)
            mean, std = (np.array(details[name], np.float32) for name in ("mean", "std"))
            right = mean.shape == std.shape == (form.size,) and np.isfinite(mean).all() and (std > 0).all()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise NarrowsError(f"the details of the model describe no motion: {error!r}") from error
        if not right:
            raise NarrowsError(f"the details of the model describe no motion: mean and std are not {form.size} numbers")
        return cls(form, mean, std)

    @property
    def details(self) -> dict[str, Any]:
        """The conversion as the details of a `Spec`."""
        return {**self.format.details, "mean": self.mean.tolist(), "std": self.std.tolist()}

    def to_x(self, features: np.ndarray) -> Tensor:
        """Return features [T, C] as a model reads them, float32 [C, T]."""
        return torch.from_numpy(((features - self.mean) / self.std).T.astype(np.float32, order="C"))

    def to_features(self, x: Tensor) -> np.ndarray:
        """Return the features, float64 [T, C], of what a model reads or gives, [C, T]."""
        return x.detach().cpu().double().numpy().T * self.std + self.mean


def statistics(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of features [T, C] and what to divide them by, float32 [C] each: 1 for those that are constant.

    Components of rotations that stay within a ten-thousandth of a constant count as constant, too. They say nothing
    that the other components do not, and dividing by so little would let noise take part in the likelihood.
    """
    values = features.astype(np.float64)
    mean, std = values.mean(0), values.std(0)
    constant = (std <= CONSTANT * np.sqrt((values**2).mean(0))) | (std < TINY)
    return mean.astype(np.float32), np.where(constant, 1.0, std).astype(np.float32)
