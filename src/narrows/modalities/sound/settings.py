"""The settings of a recipe's `data` where it is of sound."""

from __future__ import annotations

from dataclasses import dataclass, field

from narrows.data.errors import DataError
from narrows.modalities.sound.files import LOWEST_RATE

__all__ = ["SoundSettings"]


@dataclass
class SoundSettings:
    """Which sound, and how it is read.

    Args:
        source: a folder of sound files, laid out as SPEAKER/FILE, as VCTK or as LibriSpeech; a folder of Parquet
            files, as the hub lays them out; one such file; or `hf:NAME`, a set of the Hugging Face hub.
        sample_rate: samples a second; files of other rates are resampled.
        window: the samples of a training window; shorter clips are padded with zeros at their end.
        speaker: how the speaker of a file is told: `folder`, by the name of its folder; or a table, a .csv or .tsv
            file (looked for in the source too) with the columns `file`, relative to the source, and `speaker`.
        held_out_speakers: speakers all of whose clips are kept apart, to try the model on voices it never heard. So
            are those of speakers that are only in the source's own validation or test split.
        validation: the share of the training clips held out for validation, if the source has no such split of the
            speakers in training.
        test: the share of the training clips held out for the test, if the source has no such split of them.
        split_seed: of the choice of what is held out.
        strict: stop at the first file that cannot be read instead of skipping it.
        config: the configuration of a hub set that has several.
        audio_column: the column of the sound in Parquet and hub sets; None takes the only one of sound.
        speaker_column: the column of the speakers in Parquet and hub sets; None takes `speaker_id`, `speaker` or
            `client_id`, and without any of them all clips are of one speaker.
    """

    source: str = ""
    sample_rate: int = 16000
    window: int = 8192
    speaker: str = "folder"
    held_out_speakers: list[str] = field(default_factory=list)
    validation: float = 0.05
    test: float = 0.05
    split_seed: int = 0
    strict: bool = False
    config: str | None = None
    audio_column: str | None = None
    speaker_column: str | None = None

    def __post_init__(self) -> None:
        if not self.source:
            raise DataError("data.source is not set: say where the sound is with --data FOLDER")
        for name in ("sample_rate", "window"):
            if getattr(self, name) < 1:
                raise DataError(f"data.{name} is {getattr(self, name)}: it must be at least 1")
        if self.sample_rate < LOWEST_RATE:
            raise DataError(f"data.sample_rate is {self.sample_rate}: no sound has less than {LOWEST_RATE}")
        for name in ("validation", "test"):
            if not 0 <= getattr(self, name) < 1:
                raise DataError(f"data.{name} is {getattr(self, name)}: it is a share, at least 0 and below 1")
        if self.split_seed < 0:
            raise DataError(f"data.split_seed is {self.split_seed}: it must be at least 0")
