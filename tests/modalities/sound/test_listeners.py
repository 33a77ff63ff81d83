import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from narrows.errors import NarrowsError
from narrows.modalities.sound.listeners import Listener, _features, wilson

RATE = 8000
WORDS = [(500, 1500), (1500, 500), (500, 500), (1500, 1500)]
"""The resonance of the first half and that of the second, in Hz."""
VOICES = [90, 150, 250]
"""The pitch, in Hz."""


def spoken(word, voice, generator):
    """A buzz of the voice's pitch through the word's resonances, of some length, loudness and hiss."""
    seconds, gain, shift = torch.rand(3, generator=generator).tolist()
    samples = int(RATE * (0.3 + 0.5 * seconds))
    pitch = VOICES[voice] * (1 + 0.06 * (shift - 0.5))
    harmonics = torch.arange(pitch, RATE / 2, pitch)
    halves = [torch.exp(-(((harmonics - centre) / 300) ** 2)) for centre in WORDS[word]]
    loudness = torch.stack(halves).repeat_interleave(samples // 2, 0)
    time = torch.arange(len(loudness)).unsqueeze(1) / RATE
    sound = (loudness * torch.sin(2 * math.pi * harmonics * time)).sum(1)
    hiss = 0.003 * torch.randn(len(sound), generator=generator)
    return (0.02 + 0.1 * gain) * (sound / sound.abs().max() + hiss)


def recorded(takes, seed):
    """Clips of every word in every voice, with their words and their voices."""
    generator = torch.Generator().manual_seed(seed)
    kinds = [(word, voice) for word in range(len(WORDS)) for voice in range(len(VOICES)) for _ in range(takes)]
    words, voices = zip(*kinds, strict=True)
    return [spoken(word, voice, generator) for word, voice in kinds], list(words), list(voices)


@pytest.fixture(scope="module")
def listeners():
    """Of words, and of voices."""
    clips, words, voices = recorded(takes=4, seed=0)
    return Listener.train(clips, words, RATE), Listener.train(clips, voices, RATE)


@pytest.fixture(scope="module")
def held_out():
    return recorded(takes=2, seed=1)


def test_listeners_tell_words_whoever_says_them_and_voices_whatever_they_say(listeners, held_out):
    clips, words, voices = held_out
    assert listeners[0].labels(clips).tolist() == words
    assert listeners[1].labels(clips).tolist() == voices


def test_accuracy_is_the_share_that_is_right(listeners, held_out):
    clips, words, _ = held_out
    wrong = [(word + 1) % len(WORDS) for word in words]
    assert listeners[0].accuracy(clips, words) == 1
    assert listeners[0].accuracy(clips, wrong[:6] + words[6:]) == pytest.approx(1 - 6 / len(words))


def test_neither_loudness_nor_more_silence_around_make_a_difference(held_out):
    for clip in held_out[0][::4]:
        within = F.pad(clip, (200, 400))
        expected = _features(within, RATE)
        np.testing.assert_allclose(_features(within / 1000, RATE), expected, atol=1e-3)
        np.testing.assert_allclose(_features(F.pad(within, (1600, 2400)), RATE), expected, atol=1e-3)  # whole frames


def test_a_hiss_unlike_that_of_training_does_not_deafen(listeners, held_out):
    clips, words, voices = held_out
    generator = torch.Generator().manual_seed(2)
    noisy = [clip + clip.square().mean().sqrt() / 30 * torch.randn(clip.shape, generator=generator) for clip in clips]
    assert listeners[0].accuracy(noisy, words) == 1
    assert listeners[1].accuracy(noisy, voices) == 1


def test_any_labels_serve_and_the_shortest_and_the_silent_are_heard_as_one_of_them():
    clips, words, _ = recorded(takes=1, seed=0)
    listener = Listener.train(clips, [10 * word - 5 for word in words], RATE)
    heard = listener.labels([torch.zeros(800), torch.ones(1)])
    assert heard.dtype == np.int64
    assert set(heard.tolist()) <= {-5, 5, 15, 25}


@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (7, 7), (3, 8), (113, 118)])
def test_the_bounds_are_the_rates_from_which_what_was_seen_is_just_so_far(hits, trials):
    low, high = wilson(hits, trials)
    assert 0 <= low <= hits / trials <= high <= 1
    for bound in (low, high):
        if 0 < bound < 1:
            deviation = math.sqrt(bound * (1 - bound) / trials)
            assert abs(hits / trials - bound) == pytest.approx(1.959964 * deviation)
    assert (low == 0, high == 1) == (hits == 0, hits == trials)


@pytest.mark.parametrize(
    ("clips", "labels", "complaint"),
    [
        ([], [], r"the labels \[\]: a listener needs at least two different labels"),
        ([torch.ones(80)] * 2, [3, 3], r"the labels \[3\]"),
        ([torch.ones(80)] * 2, [3], "2 clips and 1 labels"),
        ([torch.ones(80), torch.ones(0)], [0, 1], r"got torch.float32 \[0\]"),
        ([torch.ones(80), torch.ones(1, 80)], [0, 1], r"got torch.float32 \[1, 80\]"),
        ([torch.ones(80), torch.full((80,), math.nan)], [0, 1], "not finite"),
    ],
)
def test_clips_and_labels_that_teach_nothing_are_refused(clips, labels, complaint):
    with pytest.raises(NarrowsError, match=complaint):
        Listener.train(clips, labels, RATE)


def test_nothing_to_listen_to_is_refused(listeners):
    with pytest.raises(NarrowsError, match="no clips"):
        listeners[0].labels([])
    with pytest.raises(NarrowsError, match="1 clips and 2 labels"):
        listeners[0].accuracy([torch.ones(80)], [0, 1])
    with pytest.raises(NarrowsError, match="no clips"):
        listeners[0].accuracy([], [])
    for hits, trials in ((0, 0), (-1, 3), (4, 3)):
        with pytest.raises(NarrowsError, match="a rate needs at least one trial"):
            wilson(hits, trials)
