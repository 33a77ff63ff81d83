"""Two tiny runs for the robustness benchmarks, one of images and one of sound, with priors: trained in seconds.

The images are the built-in digits; the sounds are tones of three speakers, generated here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile  # type: ignore[import-untyped]
from PIL import Image
from sklearn.datasets import load_digits

__all__ = ["RATE", "TinyRun", "tiny_runs"]

RATE = 2000
"""Sample rate of the tones, in Hz."""

SCHEDULE = (
    "{steps: %d, batch_size: %d, log_every: 1, validate_every: %d, checkpoint_every: %d, validation_examples: 16}"
)

IMAGES = """
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: ConvEncoder, init_args: {width: 8, downsamplings: 1, blocks: 1}}
    bottleneck:
      class_path: VectorQuantizer
      init_args:
        dim: 4
        codebook_size: 8
        care: [{class_path: KMeansStart}, {class_path: RestartUnused, init_args: {after: 3}}]
    decoder: {class_path: ConvDecoder, init_args: {width: 8, upsamplings: 1, blocks: 1}}
    likelihood: {class_path: DiscretizedLogistic}
estimator: {class_path: Pathwise}
data: {source: digits}
training: %s
"""
IMAGES_PRIOR = """
prior: {class_path: GatedPixelCNN, init_args: {layers: 2, width: 8, first_kernel_size: 3, head_width: 8, dropout: 0.1}}
training: %s
"""
SOUND = """
modality: sound
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: StridedEncoder, init_args: {width: 8, strides: [2, 4], blocks: 1}}
    bottleneck: {class_path: VectorQuantizer, init_args: {dim: 4, codebook_size: 8}}
    decoder:
      class_path: WaveNetDecoder
      init_args: {local_channels: 4, channels: 4, skip_channels: 4, stacks: 1, layers: 3}
    likelihood: {class_path: MuLawCategorical, init_args: {levels: 16}}
estimator: {class_path: Pathwise}
data: {sample_rate: 2000, window: 64, validation: 0.2, test: 0.2}
training: %s
"""
SOUND_PRIOR = """
prior: {class_path: WaveNetPrior, init_args: {channels: 4, skip_channels: 4, stacks: 1, layers: 3}}
training: %s
window: 16
"""


@dataclass(frozen=True)
class TinyRun:
    """The recipes and data of a run.

    Attributes:
        kind: `images` or `sound`.
        folder: folder with its recipes and data.
    """

    kind: str
    folder: Path

    def train(self, out: Path, resume: bool = False) -> list[str]:
        """Return the arguments of `narrows` that train the model into the run folder `out`, or resume it."""
        data = ["--data", str(self.folder / "speech")] if self.kind == "sound" else []
        return ["train", str(self.folder / "model.yaml"), "--out", str(out), *data, *["--resume"] * resume]

    def prior(self, out: Path, resume: bool = False) -> list[str]:
        """Return the arguments that fit the prior of the run in `out`, or resume it."""
        return ["prior", str(out), "--recipe", str(self.folder / "prior.yaml"), *["--resume"] * resume]

    @property
    def files(self) -> list[Path]:
        """Two files to encode."""
        return [self.folder / "files" / f"{name}.{'wav' if self.kind == 'sound' else 'png'}" for name in "ab"]


def tiny_runs(folder: Path, steps: int, checkpoint_every: int) -> list[TinyRun]:
    """Write the recipes and the data of both runs under `folder`."""
    images, sound = TinyRun("images", folder / "images"), TinyRun("sound", folder / "sound")
    for run, batch, model, prior in ((images, 32, IMAGES, IMAGES_PRIOR), (sound, 4, SOUND, SOUND_PRIOR)):
        schedule = SCHEDULE % (steps, batch, 2 * checkpoint_every, checkpoint_every)
        (run.folder / "files").mkdir(parents=True)
        (run.folder / "model.yaml").write_text(model % schedule)
        (run.folder / "prior.yaml").write_text(prior % schedule)
    for speaker, name in enumerate(["al", "bo", "cy"]):
        for take in range(6):
            clip = sound.folder / "speech" / name / f"{take}.wav"
            clip.parent.mkdir(parents=True, exist_ok=True)
            _write_tone(clip, 200 + 100 * speaker, 0.05 + 0.031 * take)
            clip.with_suffix(".tsv").write_text("start_s\tphoneme\n0\ta\n0.04\tb\n")
    for number, (png, wav) in enumerate(zip(images.files, sound.files, strict=True)):
        Image.fromarray((load_digits().images[number] * 255 / 16).astype(np.uint8)).save(png)
        _write_tone(wav, 250 + 100 * number, 0.06 + 0.02 * number)
    return [images, sound]


def _write_tone(path: Path, pitch: float, seconds: float) -> None:
    wave = 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * RATE)) / RATE)
    soundfile.write(path, wave, RATE, subtype="PCM_16")
