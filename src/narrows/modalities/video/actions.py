"""The actions of recordings as features of frames.

A recording stores at index t the action taken when frame t is seen, which leads to frame t + 1. The features of a frame
are those of the action that led to it, so that p(z_t | z_<t, a_<t) reads them at the same index t. No action leads to
the first frame of a recording: its features are zeros, which stand for an unknown action. Numbers of actions become
one-hot features. Vectors are standardised, after a feature that is 1, so that none looks like an unknown action.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from narrows.data.errors import DataError
from narrows.modalities.video.recording import Recording

__all__ = ["Actions", "find_actions"]


@dataclass(frozen=True)
class Actions:
    """The actions that recordings have.

    Args:
        names: the names of the actions 0, 1, ...; empty for vectors and if there are no actions.
        size: the length D of vectors; 0 for named actions and if there are no actions.
        mean: the mean of each number of vectors over the training split; empty without vectors, and in runs saved by
            earlier versions, in which the vectors themselves are the features.
        deviation: their standard deviations, alike.
        renamed: whether `data.action_names` gave the names, which then hold for all files, whatever names these have.
    """

    names: tuple[str, ...] = ()
    size: int = 0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    renamed: bool = False

    @classmethod
    def of(cls, details: Mapping[str, Any]) -> Actions:
        """Return the actions in `Spec.details`."""
        return cls(
            tuple(details["action_names"]),
            details["action_size"],
            tuple(details.get("action_mean", ())),
            tuple(details.get("action_deviation", ())),
            details.get("actions_renamed", False),
        )

    @property
    def details(self) -> dict[str, Any]:
        """The actions as JSON values for `Spec.details`."""
        details: dict[str, Any] = {"action_names": list(self.names), "action_size": self.size}
        if self.mean:
            details |= {"action_mean": list(self.mean), "action_deviation": list(self.deviation)}
        return details | ({"actions_renamed": True} if self.renamed else {})

    @property
    def channels(self) -> int:
        """The number of features of a frame; 0 without actions."""
        return len(self.names) or self.size + bool(self.mean)

    @property
    def about(self) -> str:
        """Describe the actions in a few words; "" if there are none."""
        if self.names:
            return f"{len(self.names)} actions ({', '.join(self.names)})"
        return f"actions of {self.size} numbers" if self.size else ""

    def matched(self, recording: Recording, names: Sequence[str] = ()) -> Recording:
        """Return a recording with its actions numbered as here: by their names, where they and the data's have some.

        Args:
            recording: the recording.
            names: the names of its actions by `data.action_names`; empty for those of its file.

        Raises:
            DataError: if it has other actions, or none.
        """
        names = tuple(names) or (() if self.renamed else recording.action_names)
        actions, are_named = recording.actions, self.names != _numbers(len(self.names))
        if actions is None or actions.ndim == 2 or not names or not are_named:
            self._check(actions)
            return recording
        if sorted(names) != sorted(self.names):
            raise DataError(
                f"its actions are named {', '.join(names)}, but the data have {self.about}: rename them in the file, "
                "or set data.action_names, which holds for all files"
            )
        Actions(names)._check(actions)
        numbers = np.array([self.names.index(name) for name in names])
        return recording._replace(actions=numbers[actions], action_names=self.names)

    def _check(self, actions: np.ndarray | None) -> None:
        if not self.channels:
            return
        if actions is None:
            raise DataError(f"it has no actions, but the data have {self.about}")
        if actions.ndim == 2 or self.size:
            found = "numbers of actions" if actions.ndim == 1 else f"actions of {actions.shape[1]} numbers"
            if actions.ndim == 1 or actions.shape[1] != self.size:
                raise DataError(f"it has {found}, but the data have {self.about}")
        elif len(actions) and actions.max() >= len(self.names):
            index = int(actions.argmax())
            raise DataError(
                f"the action at index {index} is {actions[index]}, out of range: the data have {self.about}, numbered "
                "from 0"
            )

    def features(self, actions: np.ndarray | None, frames: int) -> np.ndarray:
        """Return the features of each frame of a recording, float32 [T, channels]: the action that led to it.

        Args:
            actions: the actions of the recording, as `matched` returns them; the last one leads to no frame.
            frames: T.
        """
        features = np.zeros((frames, self.channels), np.float32)
        if actions is not None and self.channels:
            features[1:] = self.encoded(actions[:-1])
        return features

    def encoded(self, actions: np.ndarray) -> np.ndarray:
        """Return actions, numbers [N] or vectors [N, D], as features float32 [N, channels]."""
        if self.names:
            features = np.zeros((len(actions), len(self.names)), np.float32)
            features[np.arange(len(actions)), actions] = 1
            return features
        if not self.mean:
            return actions.astype(np.float32)
        standard = (actions - np.array(self.mean)) / np.array(self.deviation)
        return np.concatenate([np.ones((len(actions), 1)), standard], 1).astype(np.float32)

    def standardised(self, vectors: np.ndarray) -> Actions:
        """Return these actions with the mean and deviation of vectors [N, D]; numbers that never change stay 0."""
        vectors = vectors.astype(np.float64)
        deviation = np.where(np.ptp(vectors, 0) > 0, vectors.std(0), 1.0)
        return replace(self, mean=tuple(vectors.mean(0).tolist()), deviation=tuple(deviation.tolist()))


def find_actions(recordings: Sequence[Recording], names: Sequence[str]) -> Actions:
    """Return the actions of recordings, from the first that has some; none if none has.

    Args:
        recordings: the recordings.
        names: the names of the actions; empty for those in the first file that names them, or else their numbers.
    """
    given = [one.actions for one in recordings if one.actions is not None]
    if not given:
        return Actions()
    if given[0].ndim == 2:
        return Actions(size=given[0].shape[1])
    if names:
        return Actions(tuple(names), renamed=True)
    if named := next((one.action_names for one in recordings if one.actions is not None and one.action_names), ()):
        return Actions(named)
    highest = max(int(actions.max()) for actions in given if actions.ndim == 1)
    return Actions(_numbers(highest + 1))


def _numbers(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))
