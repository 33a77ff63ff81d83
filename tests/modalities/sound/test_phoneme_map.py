import itertools
import math

import numpy as np
import pytest

from narrows.errors import NarrowsError
from narrows.modalities.sound.phoneme_map import PhonemeMap

# Four codes and three phonemes: code 0 is mostly phoneme 2, code 1 as often 0 as 1, code 3 is never seen.
TRAINING = np.array([[0, 2], [0, 2], [0, 1], [1, 0], [1, 1], [2, 1], [2, 1], [2, 0]]).T
# Right: frames 0, 2, 3 and 5.
HELD_OUT = np.array([[0, 2], [0, 0], [1, 0], [2, 1], [2, 2], [3, 1]]).T


@pytest.fixture
def mapping():
    return PhonemeMap.learn(*TRAINING, codebook_size=4, phoneme_count=3)


def test_a_code_stands_for_its_most_frequent_phoneme(mapping):
    assert mapping.counts.tolist() == [[0, 1, 2], [1, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert mapping.most_frequent == 1
    assert mapping.phonemes.tolist() == [2, 0, 1, 1]


def test_the_figures_by_hand(mapping):
    figures = mapping.measure(*HELD_OUT)
    assert figures["accuracy"] == pytest.approx(4 / 6)
    assert figures["most_frequent"] == pytest.approx(2 / 6)
    assert (figures["phonemes"], figures["frames"]) == (3, 6)
    correction = 2 / (2 * 6 * math.log(2))  # three phonemes in six frames
    assert figures["phoneme_bits"] == pytest.approx(math.log2(3) + correction)


def test_the_most_frequent_phoneme_is_that_of_training(mapping):
    assert mapping.measure(np.array([0, 0, 1]), np.array([2, 2, 1]))["most_frequent"] == pytest.approx(1 / 3)


def test_shuffled_is_the_mean_over_all_orders_of_the_codes(mapping):
    codes, phonemes = HELD_OUT
    orders = [np.mean(mapping.phonemes[list(order)] == phonemes) for order in itertools.permutations(codes)]
    assert mapping.measure(codes, phonemes)["shuffled"] == pytest.approx(np.mean(orders))


def test_codes_that_are_the_phonemes_tell_all_of_them():
    phonemes = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
    codes = np.array([3, 1, 0])[phonemes]
    figures = PhonemeMap.learn(codes, phonemes, 4, 3).measure(codes, phonemes)
    assert figures["accuracy"] == 1
    assert figures["mutual_information_bits"] == pytest.approx(figures["phoneme_bits"])


def test_the_mutual_information_is_its_definition_and_the_correction():
    codes, phonemes = HELD_OUT
    joint = np.zeros((4, 3))
    np.add.at(joint, (codes, phonemes), 1 / 6)
    alone = joint.sum(1, keepdims=True) * joint.sum(0)
    plain = sum(p * math.log2(p / q) for p, q in zip(joint.flat, alone.flat, strict=True) if p)
    correction = (3 + 2 - 5) / (2 * 6 * math.log(2))  # m - 1 of codes, of phonemes, and of their pairs
    figures = PhonemeMap.learn(*TRAINING, 4, 3).measure(codes, phonemes)
    assert figures["mutual_information_bits"] == pytest.approx(plain + correction)


def test_codes_that_know_nothing_seem_to_tell_nothing():
    generator = np.random.default_rng(0)
    codes, phonemes = generator.integers(0, 32, 20_000), generator.integers(0, 20, 20_000)
    figures = PhonemeMap.learn(codes, phonemes, 32, 20).measure(codes, phonemes)
    assert abs(figures["mutual_information_bits"]) < 0.004  # without the correction, 0.021


def test_shuffled_codes_tell_what_the_correction_leaves_of_the_bias_of_few_frames():
    """Codes that know nothing, in 100 frames for 32 times 20 pairs: the control is as far from 0 as the figure."""
    generator = np.random.default_rng(0)
    figures = []
    for _ in range(20):
        codes, phonemes = generator.integers(0, 32, 100), generator.integers(0, 20, 100)
        figures.append(PhonemeMap.learn(codes, phonemes, 32, 20).measure(codes, phonemes))
    told = np.mean([one["mutual_information_bits"] for one in figures])
    control = np.mean([one["mutual_information_shuffled_bits"] for one in figures])
    assert told > 0.4
    assert control == pytest.approx(told, abs=0.03)
    again = PhonemeMap.learn(codes, phonemes, 32, 20).measure(codes, phonemes)
    assert again == figures[-1]


def test_the_control_of_codes_that_are_the_phonemes_is_about_none():
    phonemes = np.arange(20_000) % 20
    figures = PhonemeMap.learn(phonemes, phonemes, 20, 20).measure(phonemes, phonemes)
    assert figures["mutual_information_bits"] == pytest.approx(np.log2(20), abs=1e-3)
    assert abs(figures["mutual_information_shuffled_bits"]) < 0.004


def test_the_accuracies_of_voices_average_to_that_of_all(mapping):
    voices = np.array([0, 0, 2, 2, 2, 2])
    by_voice = mapping.accuracy_by_voice(*HELD_OUT, voices, ["ann", "bob", "cy"])
    assert by_voice == {"ann": 0.5, "cy": 0.75}


@pytest.mark.parametrize(
    ("codes", "phonemes", "complaint"),
    [
        ([[0, 1]], [0], "several per position"),
        ([0, 1], [0], "2 codes and 1 phonemes"),
        ([], [], "0 codes and 0 phonemes"),
        ([0, 4], [0, 0], "codes run from 0 to 4, but there are only 4"),
        ([0, 1], [0, -1], "phonemes run from -1 to 0, but there are only 3"),
    ],
)
def test_what_are_no_frames_is_refused(mapping, codes, phonemes, complaint):
    with pytest.raises(NarrowsError, match=complaint):
        mapping.measure(np.array(codes), np.array(phonemes))
