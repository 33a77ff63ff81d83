import gc
import itertools
import threading
import time

import numpy as np
import pytest
import torch

from narrows.data import BatchPlan, DataError, Loader, batches
from narrows.data.loader import coins, permutation

VALUES = np.arange(11 * 2 * 3).reshape(11, 2, 3)
LABELS = np.arange(11)


def first(count, flip=False, **settings):
    plan = BatchPlan(**{"size": 4, "seed": 5} | settings)
    with batches(VALUES, LABELS, plan, flip) as loader:
        return list(itertools.islice(loader, count))


def same(left, right):
    return len(left) == len(right) and all(
        torch.equal(a, b) for one, other in zip(left, right, strict=True) for a, b in zip(one, other, strict=True)
    )


def test_every_epoch_has_every_example_once():
    places = torch.cat([labels for _, labels in first(11)]).reshape(4, 11)  # 11 batches of 4 are 4 epochs of 11
    for epoch, order in enumerate(places):
        np.testing.assert_array_equal(order, permutation(11, 5, epoch))
        assert sorted(order.tolist()) == list(range(11))
    assert len({tuple(order.tolist()) for order in places}) == 4


def test_values_and_labels_stay_together():
    for values, labels in first(5):
        assert values.dtype == torch.int64
        np.testing.assert_array_equal(values, VALUES[labels])


def test_the_order_is_the_same_for_ever():
    assert permutation(10, 0).tolist() == [9, 7, 2, 0, 4, 3, 5, 6, 1, 8]
    assert coins(8, 0, 0).tolist() == [True, False, True, True, False, True, False, True]


def test_resuming_at_any_step_continues_the_stream():
    whole = first(12, flip=True)
    for start in range(12):
        assert same(first(12 - start, start=start, flip=True), whole[start:])


@pytest.mark.parametrize("processes", [2, 4])
def test_the_processes_share_the_batch_of_one(processes):
    parts = [first(7, rank=rank, processes=processes, flip=True) for rank in range(processes)]
    joined = [tuple(map(torch.cat, zip(*step, strict=True))) for step in zip(*parts, strict=True)]
    assert same(joined, first(7, flip=True))


def test_seeds_differ():
    assert not same(first(3), first(3, seed=6))


def test_flips_mirror_half_of_the_examples():
    flipped = 0
    for values, labels in first(250, flip=True):
        for value, label in zip(values.numpy(), labels, strict=True):
            mirrored = bool((value == VALUES[label, :, ::-1]).all())
            assert mirrored or (value == VALUES[label]).all()
            flipped += mirrored
    assert abs(flipped / 1000 - 0.5) < 4 * 0.5 / 1000**0.5  # four standard deviations
    assert (np.sort(VALUES, axis=None) == np.arange(VALUES.size)).all()  # the data themselves are left alone


def test_without_labels_a_batch_is_one_tensor():
    with batches(VALUES.astype(np.uint8), None, BatchPlan(11)) as loader:
        (values,) = next(loader)
    assert values.dtype == torch.uint8
    assert values.shape == (11, 2, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 12}, "training.batch_size is 12, but there are only 11 examples"),
        ({"size": 0}, "training.batch_size is 0"),
        (
            {"size": 5, "processes": 2},
            "training.batch_size is 5: it must be a positive multiple of the 2 processes",
        ),
    ],
)
def test_impossible_batches(settings, message):
    with pytest.raises(DataError, match=message):
        first(1, **settings)


def test_an_error_in_the_thread_reaches_the_reader():
    def failing():
        yield (np.zeros(1),)
        raise OSError("the disk is gone")

    loader = Loader(failing())
    next(loader)
    with pytest.raises(OSError, match="the disk is gone"):
        next(loader)
    assert not loader._thread.is_alive()


def test_a_source_that_ends_ends_the_loader():
    assert len(list(Loader((np.zeros(1),) for _ in range(7)))) == 7


def test_closing_ends_the_thread_and_the_source():
    ended = threading.Event()

    def endless():
        try:
            while True:
                yield (np.zeros(1),)
        finally:
            ended.set()

    loader = Loader(endless())
    next(loader)
    loader.close()
    assert ended.is_set()
    assert not loader._thread.is_alive()
    with pytest.raises(StopIteration):
        next(loader)


def test_a_forgotten_loader_ends_its_thread():
    loader = Loader((np.zeros(1),) for _ in itertools.count())
    next(loader)
    thread = loader._thread
    del loader
    gc.collect()
    thread.join(2)
    assert not thread.is_alive()


def test_waiting_is_measured():
    def slow():
        for _ in range(5):
            time.sleep(0.05)
            yield (np.zeros(1),)

    loader = Loader(slow())
    for _ in range(5):
        next(loader)
    assert loader.waited > 0.2
    ready = Loader((np.zeros(1),) for _ in range(5))
    while not ready._made.full():
        time.sleep(0.001)
    next(ready)
    assert ready.waited < 0.05
