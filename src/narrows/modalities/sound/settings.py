"""The settings of `data` in a recipe for sound."""

from __future__ import annotations

from dataclasses import dataclass, field

from narrows.data.errors import DataError
from narrows.data.limits import require_at_least, require_shares
from narrows.modalities.sound.files import LOWEST_RATE

__all__ = ["SoundSettings"]


@dataclass
class SoundSettings:
    """Which sound to read, and how.

    Args:
        source: a folder of sound files in the layout SPEAKER/FILE, or that of VCTK or LibriSpeech; a folder of Parquet
            files in the layout of the Hugging Face hub; a single such file; or `hf:NAME`, a data set on the hub.
        sample_rate: in Hz; files with other rates are resampled.
        window: the samples of a training window; shorter clips are padded with zeros at the end.
        speaker: how to find the speaker of a file: `folder`, from the name of its folder; or the path of a .csv or .tsv
            table (absolute or in the source) with the columns `file`, relative to the source, and `speaker`.
        held_out_speakers: speakers whose clips are all kept out of training and put into the split `unheard`, to
            measure the model on voices it never heard. Speakers that are only in the source's own validation or test
            split are treated alike.
        validation: the share of the training clips to hold out for validation, if the source has no validation split
            of the training speakers.
        test: the share of the training clips to hold out for testing, if the source has no test split of them.
        split_seed: the seed of the choice of held-out clips.
        strict: stop at the first file that cannot be read, instead of skipping it.
        config: the configuration of a hub data set that has several.
        audio_column: the column of sound in Parquet files and hub data sets; None means the only column of sound.
        speaker_column: the column of speakers in Parquet files and hub data sets; None means `speaker_id`, `speaker` or
            `client_id`; without any of them, all clips have one speaker.
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
            raise DataError("data.source is not set: give the folder of sound with --data FOLDER")
        require_at_least(self, {"sample_rate": LOWEST_RATE, "window": 1, "split_seed": 0})
        require_shares(self)
