"""Voice conversion: the codes of one speaker's words, decoded for another (van den Oord et al. 2017, section 4.3)."""

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
    """Write the sound of `file`, said by the speaker `to`, to the WAV file `out`, and return its path.

    Args:
        folder: of the run, or its id on the hub.
        file: the sound.
        to: a speaker that the model was trained on.
        out: the file to write, with the ending .wav.
        decoding: how an autoregressive decoder draws.
        progress: shows how far the work is.

    Raises:
        NarrowsError: if the run is not of sound, or does not know that speaker; the message lists those that it does.
    """
    if out.suffix.lower() != MODALITY.suffix:
        raise NarrowsError(f"--out {out}: sound is written as {MODALITY.suffix}")
    model = load(folder)
    if model.spec.modality != MODALITY.name:
        raise NarrowsError(
            f"{folder} is a model of {model.spec.modality}: voices are converted by one of sound, such as vqvae-speech"
        )
    if to not in model.classes:
        raise NarrowsError(f"no speaker {to!r}; the model knows: {', '.join(model.classes)}")
    (x,) = MODALITY.read([file], model.spec)
    speaker = torch.tensor([model.classes.index(to)])
    (sound,) = decode_drawn(model, model.encode_all([x]), speaker, decoding, progress)
    MODALITY.write(out, sound[:, : x.shape[1]], model.spec)
    return out
