"""Voice conversion: decode one speaker's codes as another speaker (van den Oord et al. 2017, section 4.3)."""

from __future__ import annotations

from pathlib import Path

import torch

from narrows.decoding import Decoding, decode_drawn
from narrows.errors import NarrowsError
from narrows.modalities.sound.modality import MODALITY
from narrows.pretrained import load
from narrows.progress import Progress, hidden

__all__ = ["convert_voice"]


def convert_voice(
    folder: str, file: Path, to: str, out: Path, decoding: Decoding | None = None, progress: Progress = hidden
) -> Path:
    """Convert the speech in `file` to the voice of `to`, write it to the WAV file `out` and return that path.

    Args:
        folder: the run folder, or the run's id on the hub.
        file: the sound file to convert.
        to: a speaker that the model was trained on.
        out: the file to write, ending in .wav.
        decoding: options for an autoregressive decoder.
        progress: shows how far the work is.

    Raises:
        NarrowsError: if `out` does not end in .wav, the model is not a model of sound, or it was not trained on that
            speaker; the message lists its speakers.
    """
    if out.suffix.lower() != MODALITY.suffix:
        raise NarrowsError(f"--out {out}: sound is written as {MODALITY.suffix}")
    model = load(folder)
    if model.spec.modality != MODALITY.name:
        raise NarrowsError(
            f"{folder} is a model of {model.spec.modality}: voice conversion needs one of sound, such as vqvae-speech"
        )
    if to not in model.classes:
        raise NarrowsError(f"no speaker {to!r}; the model knows: {', '.join(model.classes)}")
    (x,) = MODALITY.read([file], model.spec)
    speaker = torch.tensor([model.classes.index(to)])
    (sound,) = decode_drawn(model, model.encode_all([x]), speaker, decoding, progress)
    MODALITY.write(out, sound[:, : x.shape[1]], model.spec)
    return out
