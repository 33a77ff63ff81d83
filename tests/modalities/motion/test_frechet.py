"""Fréchet distances of motions in the features of a classifier that learns to tell them apart."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from narrows.evaluation.frechet import classification_accuracy, frechet_distance_of
from narrows.modalities.motion import distances as module
from narrows.modalities.motion.dataset import MotionData, open_motion
from narrows.modalities.motion.distances import distances
from narrows.modalities.motion.frechet import train_window_classifier, windows_of
from narrows.modalities.motion.settings import MotionSettings
from narrows.progress import hidden
from tests.modalities.motion.helpers import write_walks


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> MotionData:
    folder = write_walks(tmp_path_factory.mktemp("walks"), 800)
    return open_motion(
        MotionSettings(str(folder), window=16, stride=4, clip=50, hold_out="time", gap=0, test=0.3), True
    )


def test_a_shift_of_the_features_costs_its_square() -> None:
    class Last(nn.Flatten):
        num_features = 6

    x = torch.randn(200, 2, 3, generator=torch.Generator().manual_seed(0))
    shift = torch.tensor([[0.5, 0, -1], [2, 0, 0]])
    expected = 0.5**2 + 1 + 2**2
    assert frechet_distance_of(Last(), x.split(60), (x + shift).split(70)) == pytest.approx(expected, rel=1e-4)


def test_windows_do_not_overlap_and_the_rest_is_left_out() -> None:
    motions = [torch.arange(2 * length).reshape(2, length) for length in (11, 3, 4)]
    assert windows_of(motions, 4).tolist() == [
        [[0, 1, 2, 3], [11, 12, 13, 14]],
        [[4, 5, 6, 7], [15, 16, 17, 18]],
        [[0, 1, 2, 3], [4, 5, 6, 7]],
    ]
    assert len(windows_of(motions, 12)) == 0


def test_motions_of_unknown_class_are_left_out(data: MotionData) -> None:
    train = replace(data.train, labels=np.where(data.train.sources == 0, -1, data.train.labels))
    trained = train_window_classifier(train, data.test, 5)
    assert trained is not None
    assert trained.classes == "2 classes"


def test_it_tells_actions_apart_that_it_did_not_see(data: MotionData) -> None:
    state = torch.get_rng_state()
    trained, again = (train_window_classifier(data.train, data.test, 60, seed=1) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert trained is not None
    assert again is not None
    assert trained.classes == "2 classes"
    assert set(trained.accuracies) == {"the ends of training sequences", "held-out motions of the same classes"}
    assert min(trained.accuracies.values()) > 0.9
    assert trained.accuracies == again.accuracies
    network = trained.network
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.network.parameters(), strict=True))
    x = windows_of([data.test[index] for index in range(len(data.test))], 16)
    labels = torch.full((len(x),), 7)
    assert classification_accuracy(network, [(x, labels)]) == 0


def test_without_classes_the_sequences_are_told_apart(data: MotionData) -> None:
    trained = train_window_classifier(data.train.relabelled([], None), data.test.relabelled([], None), 60)
    assert trained is not None
    assert trained.classes == "6 sequences"
    assert trained.accuracies["the ends of training sequences"] > 1 / 3


def test_one_class_has_no_features(data: MotionData) -> None:
    alone = data.train.taken(0)
    assert train_window_classifier(alone, data.test, 1) is None


def test_held_out_motions_are_at_no_distance_and_noise_takes_them_away(
    data: MotionData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FEATURE_STEPS", 60)
    real = [data.test[index] for index in range(len(data.test))]
    generator = torch.Generator().manual_seed(0)
    scales = (0.0, 0.1, 0.3, 1.0)
    made = {
        scale: {"reconstructions": [x + scale * torch.randn(x.shape, generator=generator) for x in real]}
        for scale in scales
    }
    found, told = distances(data, data.test, made, hidden)
    values = [found[scale]["frechet_reconstructions"] for scale in scales]
    assert values[0] == pytest.approx(0, abs=1e-3)
    assert all(nearer < farther for nearer, farther in pairwise(values))
    assert "2 classes" in told
    assert "% on held-out motions of the same classes" in told


def test_too_few_windows_are_said(data: MotionData) -> None:
    found, told = distances(data, data.test.taken(0), {1.0: {"samples": [data.test[0]]}}, hidden)
    assert found == {1.0: {}}
    assert told == "There is no Fréchet distance: it needs 33 windows of 16 frames, not 3."
