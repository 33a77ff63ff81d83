"""Every figure that a measurement can give has a unit."""

from functools import partial

import numpy as np
import pytest
import torch
import yaml

from narrows.config import ModelRecipe, PriorRecipe, resolve
from narrows.data import Spec
from narrows.evaluation import measure
from narrows.evaluation.units import UNITS, unit_of
from narrows.modalities.images.images import Images
from narrows.modalities.images.modality import MODALITY as image_modality
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.evaluate import measure_reconstructions
from narrows.modalities.sound.modality import MODALITY as sound_modality
from narrows.modalities.sound.phoneme_map import PhonemeMap
from narrows.modalities.video.modality import MODALITY as video_modality
from tests.conftest import TINY_PRIOR

IMAGES = """
class_path: Autoencoder
init_args:
  encoder: {class_path: ConvEncoder, init_args: {width: 4, downsamplings: 1, blocks: 1}}
  bottleneck: BOTTLENECK
  decoder: {class_path: ConvDecoder, init_args: {width: 4, upsamplings: 1, blocks: 1}}
  likelihood: {class_path: DiscretizedLogistic}
"""
VQ = "{class_path: VectorQuantizer, init_args: {dim: 4, codebook_size: 8}}"
HIERARCHY = """
class_path: Autoencoder
init_args:
  encoder: {class_path: Stem}
  bottleneck: {class_path: Hierarchy, init_args: {width: 4, latents: 2, middle: 4, layers: {1: 1, 16: 1}}}
  decoder: {class_path: Head}
  likelihood: {class_path: GaussianCalibrated}
"""
SOUND = """
class_path: Autoencoder
init_args:
  encoder: {class_path: StridedEncoder, init_args: {width: 4, strides: [2, 4], blocks: 1}}
  bottleneck: BOTTLENECK
  decoder: {class_path: StridedDecoder, init_args: {width: 4, strides: [4, 2], blocks: 1}}
  likelihood: {class_path: MuLawCategorical, init_args: {levels: 16}}
"""
GAUSSIAN = "{class_path: Gaussian, init_args: {channels: 2}}"
SOUND_PRIOR = """
prior: {class_path: WaveNetPrior, init_args: {channels: 4, skip_channels: 4, stacks: 1, layers: 2}}
"""
OF_ALL = {"bits_per_dim", "rate_bits_per_dim", "distortion_bits_per_dim", "log_likelihood"}
OF_IMAGES = {*OF_ALL, "squared_error", "mse", "psnr", "ssim"}
OF_CODES = {"perplexity", "usage"}
WITH_PRIOR = {"prior_rate_bits_per_dim", "prior_bits_per_dim", "prior_bits_per_code"}


def built(text, spec):
    torch.manual_seed(0)
    return resolve(ModelRecipe, {"model": yaml.safe_load(text)}).build().model(spec)


def prior_of(text, codes):
    return resolve(PriorRecipe, yaml.safe_load(text)).build().prior(codes)


@pytest.mark.parametrize(
    ("text", "prior", "expected"),
    [
        (IMAGES.replace("BOTTLENECK", VQ), False, OF_IMAGES | OF_CODES),
        (IMAGES.replace("BOTTLENECK", VQ), True, OF_IMAGES | OF_CODES | WITH_PRIOR),
        (IMAGES.replace("BOTTLENECK", GAUSSIAN), False, OF_IMAGES | {"importance_weighted_bits_per_dim"}),
        (HIERARCHY, False, OF_IMAGES | {"importance_weighted_bits_per_dim"}),
    ],
)
def test_every_figure_of_images_has_a_unit(text, prior, expected):
    model = built(text, (1, 16, 16))
    if prior:
        model.prior = prior_of(TINY_PRIOR, model.codes)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 16, 16), dtype=np.uint8)
    measured = measure(model, Images(pixels, None), samples=2, figures=partial(image_modality.figures, spec=model.spec))
    assert set(measured.figures) == expected
    assert all(unit_of(name, image_modality.units) for name in measured.figures)
    assert (measured.layer_rates != {}) == (text == HIERARCHY)
    for group, number in measured.layer_rates:
        assert unit_of(f"rate of {group} layer {number}, nats") == "nats"


@pytest.mark.parametrize("bottleneck", [VQ, GAUSSIAN])
def test_every_figure_of_sound_has_a_unit(bottleneck):
    model = built(SOUND.replace("BOTTLENECK", bottleneck), Spec((1, 64), "sound", ("al",), (-1.0, 1.0), True, 2000))
    model.classes = ["al"]
    expected = OF_ALL | {"bits_per_second", "squared_error"}
    if bottleneck == VQ:
        model.prior = prior_of(SOUND_PRIOR, model.codes)
        expected |= OF_CODES | WITH_PRIOR
    samples = np.random.default_rng(0).integers(-999, 999, 200).astype(np.int16)
    clips = Clips(samples, np.array([0, 80, 200]), ["a.wav", "b.wav"], np.zeros(2, np.int64), ["al"], 64)
    figures = measure(model, clips).figures
    assert set(figures) == expected
    figures |= measure_reconstructions(model.eval(), clips)
    assert all(unit_of(name, sound_modality.units) for name in figures)


def test_every_figure_of_phonemes_has_a_unit():
    codes, phonemes = np.array([0, 1, 1]), np.array([1, 0, 0])
    figures = PhonemeMap.learn(codes, phonemes, 2, 2).measure(codes, phonemes)
    for name in [*figures, "unknown", "clips"]:
        unit = unit_of(name, sound_modality.units)
        assert unit
        assert unit_of(f"{name}, unseen clips", sound_modality.units) == unit


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        ("prior_bits_per_dim", "bits/dim"),
        ("psnr", "dB"),
        ("log_likelihood", "nats"),
        ("usage", "of 1"),
        ("perplexity", "codes"),
        ("bits_per_second", "bits/s"),
        ("rate of 8x8 layer 3, nats", "nats"),
        ("accuracy, clips of another source", "of 1"),
        ("imagined_psnr_10", "dB"),
        ("reconstructed_action_accuracy_5", "of 1"),
        ("imagined_ssim", ""),
        ("from a later version", ""),
    ],
)
def test_the_units(name, unit):
    assert unit_of(name, {**image_modality.units, **sound_modality.units, **video_modality.units}) == unit


def test_the_figures_of_a_kind_of_data_have_no_unit_elsewhere():
    assert unit_of("psnr") == unit_of("psnr", sound_modality.units) == ""


def test_a_figure_in_bits_says_so():
    every = {**UNITS, **image_modality.units, **sound_modality.units}
    assert all("bits" in unit for name, unit in every.items() if "bits" in name)
