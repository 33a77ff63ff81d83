"""Reports of runs that hold out hardly anything, or nothing."""

import json
import re

import numpy as np
import pytest
import torch
import yaml

from narrows.config import PriorRecipe, resolve
from narrows.data import Spec
from narrows.modalities.images.images import ImageData, Images
from narrows.modalities.recipes import resolve_training
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.dataset import SoundData
from narrows.pretrained import copy_model, load, save_autoencoder, save_prior
from narrows.report.run import report_run
from narrows.training.run import RunFolder
from tests.conftest import TINY_MODEL, TINY_PRIOR

ROW = {"step": 1, "split": "validation", "bits_per_dim": 5.0, "loss": 1.0}
HIERARCHY = """
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: Stem}
    bottleneck: {class_path: Hierarchy, init_args: {width: 4, latents: 2, middle: 4, layers: {1: 1, 8: 1}}}
    decoder: {class_path: Head}
    likelihood: {class_path: GaussianCalibrated}
estimator: {class_path: Pathwise}
data: {source: digits}
"""
SOUND = """
modality: sound
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: StridedEncoder, init_args: {width: 4, strides: [2, 4], blocks: 1}}
    bottleneck: {class_path: VectorQuantizer, init_args: {dim: 4, codebook_size: 8}}
    decoder: {class_path: StridedDecoder, init_args: {width: 4, strides: [4, 2], blocks: 1}}
    likelihood: {class_path: MuLawCategorical, init_args: {levels: 16}}
estimator: {class_path: Pathwise}
data: {source: speech, sample_rate: 2000, window: 64}
"""
ALWAYS = ["Training", "Settings"]


def settings_of(kind: str) -> dict:
    if kind == "hierarchy":
        return yaml.safe_load(HIERARCHY)
    if kind == "two stages":
        settings = yaml.safe_load(HIERARCHY)
        settings["model"]["class_path"] = "TwoStage"
        return settings
    settings = yaml.safe_load(TINY_MODEL)
    variants = settings.pop("variants")
    if kind == "vae":
        settings["model"]["init_args"]["bottleneck"] = variants["vae"]["model"]["init_args"]["bottleneck"]
    return settings


def image_run(path, kind: str, channels: int, classes: list[str]) -> RunFolder:
    """The run folder of an untrained model, with an untrained prior where its codes have one."""
    torch.manual_seed(0)
    run = RunFolder(path)
    resolved = resolve_training(settings_of(kind))
    model = resolved.build().model(Spec((channels, 8, 8), "images", tuple(classes)))
    if kind == "two stages":
        first = image_run(path / "of first", "hierarchy", channels, classes)
        copy_model(first.path, run.first)
        model.attach_to(load(run.first))
    save_autoencoder(run.model, model, resolved.yaml)
    run.write_recipe(resolved.yaml)
    run.log(ROW)
    if model.discrete:
        prior = resolve(PriorRecipe, yaml.safe_load(TINY_PRIOR))
        save_prior(run.prior.model, prior.build().prior(model.codes), prior.yaml)
        run.prior.write_recipe(prior.yaml)
        run.prior.log(ROW)
    return run


def images(count: int, channels: int, classes: list[str]) -> Images:
    generator = np.random.default_rng(0)
    labels = np.arange(count) % len(classes) if classes else None
    return Images(generator.integers(0, 256, (count, channels, 8, 8), dtype=np.uint8), labels, classes)


def image_data(held_out: int, channels: int, classes: list[str]) -> ImageData:
    spec = Spec((channels, 8, 8), "images", tuple(classes))
    parts = [images(count, channels, classes) for count in (9, held_out, held_out)]
    return ImageData(*parts, spec, [], {}, "")


def titles(run: RunFolder) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)", run.report.read_text())


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("kind", ["vq", "vae", "hierarchy", "two stages"])
@pytest.mark.parametrize(("channels", "classes"), [(1, []), (3, ["only"]), (1, ["a", "b"])])
def test_every_section_of_images(tmp_path, kind, count, channels, classes):
    run = image_run(tmp_path, kind, channels, classes)
    report_run(run, image_data(count, channels, classes))
    first, prior = kind == "two stages", kind == "vq"
    measured = ["Reconstructions"] if count else ["Validation"]
    measured += ["Samples"]
    measured += ["Between two examples"] * (count > 1)
    measured += ["Bits per dimension"] * (count > 0)
    measured += ["Rate by layer"] * (count > 0 and kind in ("hierarchy", "two stages"))
    measured += ["From coarse to fine"] * (count > 0 and kind == "hierarchy")
    measured += ["Second stage"] * first
    measured += ["Codebook use"] * (count > 0 and prior)
    assert titles(run) == [*measured, "Training", *["Training the prior"] * prior, "Settings"]
    page = run.report.read_text()
    assert (f"validation, all {count}" in page) == (count > 0)
    assert ("holds no image" in page) == (count == 0)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("speakers", [1, 2])
def test_every_section_of_sound(tmp_path, count, speakers):
    torch.manual_seed(0)
    names = ["al", "bo"][:speakers]
    run = RunFolder(tmp_path)
    resolved = resolve_training(yaml.safe_load(SOUND))
    model = resolved.build().model(Spec((1, 64), "sound", tuple(names), (-1.0, 1.0), True, 2000))
    save_autoencoder(run.model, model, resolved.yaml)
    run.write_recipe(resolved.yaml)
    run.log(ROW)

    def clips(count: int) -> Clips:
        lengths = 50 + 30 * np.arange(count)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        samples = np.random.default_rng(0).integers(-9999, 9999, offsets[-1]).astype(np.int16)
        speakers_of = np.arange(count) % speakers
        return Clips(samples, offsets, [f"{i}.wav" for i in range(count)], speakers_of, names, 64)

    splits = {"train": clips(4), "validation": clips(count), "test": clips(count), "unheard": clips(0)}
    others = {"skipped": [], "digest": {}, "summary": "", "speakers": names, "silent": [], "clipped": []}
    report_run(run, SoundData(**splits, spec=model.spec, **others))
    measured = ["Reconstructions", *["Voices converted"] * (speakers > 1), "Bits per dimension", "Codebook use"]
    assert titles(run) == [*(measured if count else ["Validation"]), *ALWAYS]


@pytest.mark.parametrize(
    ("kept", "head"),
    [
        ({"split": "test", "images": 90, "samples": 64}, "test, 90"),
        ({"split": "test", "source": None, "images": 100, "of": 5000, "samples": 64}, "test, 100 of 5,000"),
        ({"split": "unheard", "clips": 7}, "unheard, 7"),
        (
            {
                "format": 2,
                "split": "validation",
                "source": None,
                "unit": "images",
                "examples": 90,
                "of": 90,
                "samples": 1,
            },
            "validation, all 90",
        ),
        (
            {"format": 2, "split": "all", "source": "OTHER", "unit": "images", "examples": 5, "of": 9, "samples": 1},
            "all, 5 of 9, OTHER",
        ),
        (
            {
                "format": 2,
                "split": "test",
                "source": None,
                "unit": "images",
                "examples": 4,
                "of": 4,
                "samples": 1,
                "options": {"imagine": 2},
            },
            "test, all 4, --imagine 2",
        ),
    ],
)
def test_the_count_behind_the_figures_of_evaluate_is_told(tmp_path, kept, head):

    run = image_run(tmp_path, "vae", 1, [])
    run.evaluation.write_text(json.dumps({**kept, "figures": {"psnr": 12.5, "bits_per_dim": 4.0}, "layer_rates": {}}))
    report_run(run, image_data(2, 1, []))
    page = run.report.read_text()
    assert f">{head}</th>" in page
    assert ">bits/dim</td>" in page
