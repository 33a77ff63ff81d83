import logging
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from narrows.data import BatchPlan, DataError
from narrows.modalities.music.baselines import baselines
from narrows.modalities.music.dataset import MusicData, open_music
from narrows.modalities.music.midi import Clock, Notes, write_notes
from narrows.modalities.music.repeats import repeated_windows
from narrows.modalities.music.settings import MusicSettings

WINDOW = 10


def song(folder: Path, name: str, steps: int, lowest: int = 60) -> None:
    """Write a song in which step t has the pitches of t's binary digits, so that every stretch can be told."""
    rows = [(t, t + 1, lowest + bit, 80) for t in range(steps) for bit in range(12) if t + 1 >> bit & 1]
    write_notes(folder / f"{name}.mid", Notes(*np.array(rows).T), Clock(20.0))


def steps_of(roll: np.ndarray) -> list[int]:
    """The steps of the song that a stretch of it has."""
    return [sum(1 << bit for bit in np.flatnonzero(row[:12])) - 1 for row in roll]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, steps in {"long": 400, "middle": 200, "a/short": 30}.items():
        song(tmp_path, name, steps)
    return tmp_path


def opened(folder: Path, **settings: object) -> MusicData:
    given = {"source": str(folder), "window": WINDOW, "pitches": (60, 71), **settings}
    return open_music(MusicSettings(**given))  # type: ignore[arg-type]


@pytest.mark.parametrize("gap", [None, 0, 25])
@pytest.mark.parametrize("seed", range(5))
def test_stretches_of_a_song_are_apart_by_the_gap(folder: Path, seed: int, gap: int | None) -> None:
    data = opened(folder, validation=0.1, test=0.2, split_seed=seed, gap=gap)
    apart = WINDOW if gap is None else gap
    for number, steps in ((1, 400), (2, 200)):
        found = []
        for part in (data.train, data.validation, data.test):
            for index in np.flatnonzero(part.labels == number):
                stretch = steps_of(part.stored(index))
                assert stretch == list(range(part.begins[index], part.begins[index] + len(stretch)))
                found.append((stretch[0], stretch[-1] + 1))
        found.sort()
        assert all(later[0] - earlier[1] == apart for earlier, later in pairwise(found))
        # What is missing at the ends is at most a window and a gap.
        assert found[0][0] <= apart
        assert steps - found[-1][1] <= apart
        assert data.validation.lengths[data.validation.labels == number].tolist() == [steps // 10]
        assert data.test.lengths[data.test.labels == number].tolist() == [steps // 5]


def test_a_song_too_short_to_hold_a_part_out_is_for_training(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        data = opened(folder)
    assert data.classes == ["a/short", "long", "middle"]
    assert (data.train.labels == 0).sum() == 1
    assert not (data.validation.labels == 0).any()
    assert "songs too short to hold a part out, used for training only: 1\n  a/short" in caplog.text


def test_whole_songs_are_held_out_by_name(tmp_path: Path) -> None:
    for number in range(40):
        song(tmp_path, f"song{number}", 30)
    data = opened(tmp_path, hold_out="song", validation=0.2, test=0.2)
    parts = [set(part.labels.tolist()) for part in (data.train, data.validation, data.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    assert all(len(part) > 2 for part in parts)
    song(tmp_path, "another", 30)
    again = opened(tmp_path, hold_out="song", validation=0.2, test=0.2)
    assert set(data.test.names) <= set(again.test.names)


@pytest.mark.parametrize(("stride", "starts"), [(None, [0, 10, 20]), (5, [0, 5, 10, 15, 20]), (1, list(range(21)))])
def test_every_window_is_used_once_in_an_epoch(tmp_path: Path, stride: int | None, starts: list[int]) -> None:
    song(tmp_path, "one", 30)
    data = opened(tmp_path, stride=stride, validation=0, test=0)
    assert data.train.starts[1].tolist() == starts
    batches = data.train.batches(BatchPlan(1, seed=3))
    seen = [steps_of(rolls[0].numpy()) for rolls, _, _ in islice(batches, len(starts))]
    assert sorted(seen) == [list(range(start, start + WINDOW)) for start in starts]
    again = data.train.batches(BatchPlan(1, seed=3, start=2))
    assert steps_of(next(again)[0][0].numpy()) == seen[2]
    batches.close()
    again.close()


def test_only_the_first_windows_of_each_song_are_used(folder: Path) -> None:
    data = opened(folder, windows_per_song=4, validation=0.1, test=0.1)
    which, starts = data.train.starts
    songs = data.train.labels[which]
    assert np.bincount(songs).tolist() == [3, 4, 4]
    first = np.flatnonzero(songs == 1)
    assert (data.train.begins[which] + starts)[first].tolist() == sorted((data.train.begins[which] + starts)[first])


def test_a_batch_has_a_mask_where_a_song_ends(tmp_path: Path) -> None:
    song(tmp_path, "one", 7)
    data = opened(tmp_path, validation=0, test=0)
    loader = data.train.batches(BatchPlan(1))
    batch = data.train.batch(*next(loader))
    loader.close()
    assert batch.x.shape == (1, 24, WINDOW)
    assert batch.x.unique().tolist() == [0, 1]
    assert batch.mask is not None
    assert batch.mask.tolist() == [[True] * 7 + [False] * 3]
    assert steps_of(batch.x[0].T.numpy())[:7] == list(range(7))


def test_pitches_are_found_in_the_training_data(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pitches = [20, *[50] * 500, *[70] * 499]
    rows = [(t, t + 1, pitch, 80) for t, pitch in enumerate(pitches)]
    write_notes(tmp_path / "one.mid", Notes(*np.array(rows).T), Clock(20.0))
    with caplog.at_level(logging.WARNING):
        layout = opened(tmp_path, pitches=None, validation=0, test=0).layout
    assert (layout.lowest, layout.highest) == (50, 70)
    assert "notes outside the pitches 50 to 70, left out: 1" in caplog.text
    assert opened(tmp_path, pitches=None, rare=0, validation=0, test=0).layout.lowest == 20


def test_a_model_reads_other_music_with_its_own_pitches(folder: Path) -> None:
    spec = opened(folder, pitches=(50, 64)).spec
    other = open_music(MusicSettings(str(folder), window=WINDOW), spec=spec)
    assert other.layout.details == spec.details
    assert other.train.values.shape[1] == spec.shape[0] == 30


def test_velocities_are_kept_if_asked(folder: Path) -> None:
    data = opened(folder, velocity=True, validation=0, test=0)
    x = data.train[0]
    assert x.unique().tolist() == pytest.approx([0, 80 / 127, 1])


def test_songs_are_chosen_by_name(folder: Path) -> None:
    assert opened(folder, songs=["long"]).classes == ["long"]
    with pytest.raises(DataError, match=r"data.songs names unknown, but .* has no such file"):
        opened(folder, songs=["long", "unknown"])


def test_files_that_cannot_be_read_are_skipped_and_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "broken.mid").write_bytes(b"MThd")
    (folder / "note.txt").write_text("no music")
    with caplog.at_level(logging.WARNING):
        data = opened(folder)
    assert [Path(file).name for file, _ in data.skipped] == ["broken.mid"]
    assert "broken.mid: it is not a MIDI file" in caplog.text
    with pytest.raises(DataError, match=r"broken\.mid: it is not a MIDI file"):
        opened(folder, strict=True)


def test_files_that_differ_only_in_their_ending_are_songs_of_their_own(folder: Path) -> None:
    song(folder, "middle2", 300)
    (folder / "middle2.mid").rename(folder / "middle.MIDI")
    data = opened(folder, validation=0.1, test=0.1)
    assert data.spec.classes == ("a/short", "long", "middle.MIDI", "middle.mid")
    (folder / "middle.MIDI").unlink()
    alone = opened(folder, validation=0.1, test=0.1)  # what is held out of the other file is where it was
    assert alone.test.begins[alone.test.labels == 2].tolist() == data.test.begins[data.test.labels == 3].tolist()
    for part in (data.train, data.validation, data.test):
        for index in range(len(part)):
            stretch = steps_of(part.stored(index))
            assert stretch == list(range(part.begins[index], part.begins[index] + len(stretch)))


def test_windows_that_the_training_music_has_are_counted(folder: Path) -> None:
    """Each step of a song that counts in binary digits is another."""
    data = opened(folder, songs=["long"], validation=0.1, test=0.1)
    assert repeated_windows(data.train, data.test, WINDOW) == 0
    whole = opened(folder, songs=["long"], validation=0, test=0).train
    assert repeated_windows(whole, data.test, WINDOW) == 1
    part = replace(data.test, values=np.concatenate([whole.stored(0)[3:13], np.zeros((10, 24), np.uint8)]))
    part.offsets = np.array([0, 20])
    assert repeated_windows(whole, part, WINDOW) == 0.5


def test_a_model_reads_other_music_at_its_own_rate(folder: Path) -> None:
    model = opened(folder).spec
    asked = MusicSettings(source=str(folder), window=WINDOW, rate=5, steps_per_beat=4, validation=0, test=0)
    assert open_music(asked, spec=model).train.lengths.tolist() == [30, 400, 200]


def test_pitches_without_notes_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no note of the training music has one of the pitches 0 to 1"):
        opened(folder, pitches=(0, 1))


def test_a_source_without_music_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no MIDI files"):
        opened(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        opened(tmp_path / "nothing")
    (tmp_path / "broken.mid").write_bytes(b"MThd")
    with pytest.raises(DataError, match=r"has no music that can be read; the last: .*broken.mid"):
        opened(tmp_path)


def test_the_baselines_are_the_counts_of_the_training_data(folder: Path) -> None:
    """Against torch's Bernoulli, step by step."""
    data = opened(folder, onsets=False, validation=0.1, test=0.1)
    train = [data.train.stored(index) for index in range(len(data.train))]
    bits = {"unigram": torch.zeros(()), "order1": torch.zeros(())}
    for channel in range(12):
        ons = [roll[:, channel].tolist() for roll in train]
        flat = [value for roll in ons for value in roll]
        share = (sum(flat) + 0.5) / (len(flat) + 1)
        pairs = [pair for roll in ons for pair in pairwise(roll)]
        after = [(pairs.count((given, 1)) + 0.5) / (sum(first == given for first, _ in pairs) + 1) for given in (0, 1)]
        for index in range(len(data.test)):
            before = None
            for value in torch.from_numpy(data.test.stored(index)[:, channel]).float():
                for name, p in (("unigram", share), ("order1", share if before is None else after[before])):
                    bits[name] -= torch.distributions.Bernoulli(p).log_prob(value) / np.log(2)
                before = int(value)
    found = baselines(data.train, data.test)
    for name, total in bits.items():
        assert found[f"{name}_bits_per_dim"] == pytest.approx(float(total) / data.test.values.size, rel=1e-4)
    assert found["order1_bits_per_dim"] < found["unigram_bits_per_dim"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": ""}, "data.source is not set"),
        ({"rate": 0.5}, "data.rate is 0.5"),
        ({"stride": 0}, "data.stride is 0"),
        ({"pitches": (70, 60)}, "data.pitches is"),
        ({"steps_per_beat": 0}, "data.steps_per_beat is 0"),
        ({"test": 1.0}, "data.test is 1.0"),
        ({"max_minutes": 0.0}, "data.max_minutes is 0"),
        ({"validation": 0.5, "test": 0.5}, "data.validation is 0.5 and data.test 0.5"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        MusicSettings(**({"source": "folder"} | settings))  # type: ignore[arg-type]
