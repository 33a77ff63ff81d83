import io
import itertools
import logging
import sys

import datasets
import numpy as np
import pytest
import soundfile
import torch
from jsonargparse import ArgumentParser

from narrows.data import BatchPlan, DataError, Spec
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.dataset import open_sounds
from narrows.modalities.sound.files import read_sound, to_int16, to_waveform, write_sound
from narrows.modalities.sound.settings import SoundSettings

RATE = 16000
STEP = 1 / 32768


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "set").mkdir()
    return tmp_path / "set"


@pytest.fixture
def write(folder):
    """Write a sound file below `folder`, a tone of 20 ms unless samples are given; return its path."""

    def write_file(name, samples=None, rate=RATE, **form):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, tone(440, 0.02, rate) if samples is None else samples, rate, **form)
        return path

    return write_file


def tone(hertz, seconds=1.0, rate=RATE, peak=0.5):
    return peak * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def pitch(samples, rate=RATE):
    """The strongest frequency, in Hz, to the nearest bin of the spectrum."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return spectrum.argmax() * rate / len(samples)


def heard(path, rate):
    """The sound of a file, float32 [T]."""
    return torch.from_numpy(read_sound(path, rate).samples)


def opened(folder, **settings):
    return open_sounds(SoundSettings(**({"source": str(folder), "validation": 0, "test": 0} | settings)))


def names(clips, folder):
    return [name.removeprefix(f"{folder}/") for name in clips.names]


def clips_of(*lengths, window=8):
    """Clips whose samples tell their place: 0, 1, 2, ... over all clips; clip i is of speaker i."""
    offsets = np.cumsum([0, *lengths])
    count = len(lengths)
    speakers = [str(index) for index in range(count)]
    return Clips(np.arange(offsets[-1]).astype(np.int16), offsets, speakers, np.arange(count), speakers, window)


def take(loader, count):
    with loader:
        return [[part.numpy() for part in batch] for batch in itertools.islice(loader, count)]


# One file


def test_what_is_written_is_read_within_half_a_step(tmp_path):
    wave = np.random.default_rng(0).uniform(-1, 1 - STEP, 1000)
    write_sound(tmp_path / "a.wav", wave, 8000)
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.format, info.subtype, info.samplerate, info.channels) == ("WAV", "PCM_16", 8000, 1)
    read = heard(tmp_path / "a.wav", 8000)
    assert read.dtype == torch.float32
    assert np.abs(read.numpy() - wave).max() <= STEP / 2
    write_sound(str(tmp_path / "b.WAV"), read, 8000)
    assert torch.equal(heard(tmp_path / "b.WAV", 8000), read)


def test_every_16_bit_level_survives_and_what_is_beyond_is_clipped():
    levels = torch.arange(-32768, 32768, dtype=torch.int32).to(torch.int16)
    assert torch.equal(torch.from_numpy(to_int16(to_waveform(levels).numpy())), levels)
    assert to_int16(np.array([-7.0, 1.0, 7.0])).tolist() == [-32768, 32767, 32767]


@pytest.mark.parametrize(
    ("path", "wave", "message"),
    [
        ("a.flac", np.zeros(5), r"a\.flac: sound is written as WAV; name it a\.wav"),
        ("a.wav", np.zeros((1, 5)), r"a\.wav: sound of shape \[1, 5\] cannot be written"),
        ("a.wav", np.zeros(0), r"a\.wav: sound of shape \[0\] cannot be written"),
        ("a.wav", torch.tensor([0.0, float("nan")]), r"a\.wav: the sound has values that are not finite"),
    ],
)
def test_what_cannot_be_written(path, wave, message, tmp_path):
    with pytest.raises(DataError, match=message):
        write_sound(tmp_path / path, wave, RATE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "form", "error"),
    [
        ("a.wav", {"subtype": "PCM_16"}, STEP),
        ("a.wav", {"subtype": "PCM_24"}, STEP / 128),
        ("a.wav", {"subtype": "FLOAT"}, 1e-7),
        ("a.flac", {"subtype": "PCM_16"}, STEP),
        ("a.flac", {"subtype": "PCM_24"}, STEP / 128),
        ("a.ogg", {}, 0.02),
        ("a.mp3", {}, 0.02),
        ("a.mp3", {"format": "WAV"}, STEP),
        ("a.wav", {"format": "MP3"}, 0.02),
        ("a.ogg", {"format": "FLAC"}, STEP),
    ],
)
def test_formats_are_told_by_content(name, form, error, write):
    wave = tone(440, 0.5)
    read = heard(write(name, wave, **form), RATE).numpy()
    assert read.shape == wave.shape
    inner = slice(800, -800)  # a codec smears the sudden start and end
    assert np.abs(read - wave)[inner].max() <= error


def test_channels_are_averaged(write):
    left, right = tone(440, peak=0.6), tone(1000, peak=0.2)
    read = heard(write("a.wav", np.stack([left, right], 1), subtype="PCM_24"), RATE)
    assert np.abs(read.numpy() - (left + right) / 2).max() < STEP / 128


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone(rate, write):
    read = heard(write("a.wav", tone(440, rate=rate), rate), RATE).numpy()
    assert len(read) == RATE
    assert pitch(read) == 440
    assert np.abs(read - tone(440))[400:-400].max() < 1e-3


def test_resampling_removes_what_the_rate_cannot_hold(write):
    read = heard(write("a.wav", tone(10000, rate=48000), 48000), RATE).numpy()
    assert np.abs(read)[400:-400].max() < 1e-3


def test_resampled_noise_at_full_scale_stays_within_it(write):
    noise = np.sign(np.random.default_rng(0).normal(size=4000))
    assert heard(write("a.wav", noise, 44100, subtype="FLOAT"), 96000).abs().max() == 1


def test_long_files_are_read_in_blocks(write, monkeypatch):
    monkeypatch.setattr("narrows.modalities.sound.files.BLOCK", 7)
    path = write("a.flac")
    np.testing.assert_array_equal(heard(path, RATE), soundfile.read(path, dtype="float32")[0])


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"a\.wav cannot be read: No such file"):
        read_sound(tmp_path / "a.wav", RATE)


def test_without_the_packages(write, monkeypatch):
    path = write("a.wav")
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(DataError, match=r"needs the packages soundfile and soxr .*pip install 'narrows\[sound\]'"):
        read_sound(path, RATE)


def test_an_old_libsndfile_without_mp3(write, monkeypatch):
    path = write("a.mp3")

    def refuse(_):
        raise soundfile.LibsndfileError(1)

    monkeypatch.setattr(soundfile, "SoundFile", refuse)
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": "WAV"})
    with pytest.raises(DataError, match=r"a\.mp3 cannot be read: it is MP3, which needs libsndfile 1\.1 or later, not"):
        read_sound(path, RATE)


# Windows


def test_windows_follow_the_stated_law():
    """Counts of all windows agree with max(T, W) / S / (number of starts), within 5 standard deviations."""
    window, lengths = 8, np.array([3, 8, 9, 30])
    clips = clips_of(*lengths, window=window)
    total = np.maximum(lengths, window).sum()
    law = {}
    for length, begin in zip(lengths, clips.offsets[:-1], strict=True):
        starts = max(length - window, 0) + 1
        law |= {begin + start: max(length, window) / total / starts for start in range(starts)}
    assert sum(law.values()) == pytest.approx(1)
    draws = 50_000
    ((windows, _, _),) = take(clips.batches(BatchPlan(draws, seed=0)), 1)
    counts = np.bincount(windows[:, 0], minlength=lengths.sum())
    assert set(np.flatnonzero(counts)) == set(law)
    for first, chance in law.items():
        assert abs(counts[first] - draws * chance) < 5 * np.sqrt(draws * chance * (1 - chance))


def test_samples_are_covered_as_promised():
    """Under that law W / S: for every sample of a short clip, on average over a long one; the inside is all alike."""
    window, lengths = 8, np.array([3, 8, 9, 30])
    clips = clips_of(*lengths, window=window)
    draws, total = 50_000, np.maximum(lengths, window).sum()
    ((windows, real, _),) = take(clips.batches(BatchPlan(draws, seed=1)), 1)
    covered = np.bincount(windows[np.arange(window) < real[:, None]], minlength=lengths.sum()) / draws
    by_clip = np.split(covered, clips.offsets[1:-1])
    error = 5 * np.sqrt(0.25 / draws)
    for chances in by_clip:
        assert abs(chances.mean() - window / total) < error
    for chances in by_clip[:2]:
        assert (chances == chances[0]).all()
    length = lengths[3]
    inside = by_clip[3][window - 1 : 1 - window]
    assert np.abs(inside - length / total * window / (length - window + 1)).max() < error
    edge = by_clip[3][: window - 1]
    assert np.abs(edge - length / total * np.arange(1, window) / (length - window + 1)).max() < error


def test_a_window_is_of_one_clip_and_zeros_follow_a_short_one():
    clips = clips_of(5, 8, 20)
    for windows, real, speakers in take(clips.batches(BatchPlan(16, seed=0)), 20):
        assert (windows.dtype, real.dtype, speakers.dtype) == (np.int16, np.int64, np.int64)
        for row, length, speaker in zip(windows, real, speakers, strict=True):
            begin, end = clips.offsets[speaker], clips.offsets[speaker + 1]
            assert length == min(8, end - begin)
            assert begin <= row[0] <= end - length
            np.testing.assert_array_equal(row[:length], np.arange(row[0], row[0] + length))
            assert not row[length:].any()


def test_models_read_windows_as_waveforms_of_which_the_real_samples_count():
    clips = clips_of(5, 8, 20)
    samples, real, speakers = next(clips.batches(BatchPlan(16, seed=0)))
    x, mask, condition, *others = clips.batch(samples, real, speakers)
    assert others == [None, None]
    assert torch.equal(x, samples.float().unsqueeze(1) / 32768)
    assert torch.equal(mask.sum(1), real)
    assert torch.equal(mask, torch.arange(8).expand(16, 8) < real.unsqueeze(1))
    assert torch.equal(condition, speakers)
    for index, (samples, real, speakers) in enumerate(clips.whole(9)):
        x, mask, condition, *_ = clips.batch(samples, real, speakers)
        assert torch.equal(x, clips.clip(index).view(1, 1, -1))
        assert mask.all()
        assert torch.equal(clips[index], x[0])
        assert condition.tolist() == [index]
    assert index == 2


def test_a_batch_depends_on_seed_and_step_alone():
    clips = clips_of(5, 8, 300)

    def flat(batches):
        return [np.concatenate([part.ravel() for part in batch]).tolist() for batch in batches]

    whole = flat(take(clips.batches(BatchPlan(4, seed=3)), 6))
    assert flat(take(clips.batches(BatchPlan(4, seed=3)), 6)) == whole
    assert flat(take(clips.batches(BatchPlan(4, seed=3, start=4)), 2)) == whole[4:]
    assert flat(take(clips.batches(BatchPlan(4, seed=4)), 6)) != whole
    assert len({tuple(batch) for batch in whole}) == 6


def test_processes_share_the_batch():
    clips = clips_of(5, 8, 300)
    whole = take(clips.batches(BatchPlan(4, seed=0, start=2)), 3)
    parts = [take(clips.batches(BatchPlan(4, seed=0, start=2, rank=rank, processes=2)), 3) for rank in (0, 1)]
    for batch, first, second in zip(whole, *parts, strict=True):
        for together, *halves in zip(batch, first, second, strict=True):
            np.testing.assert_array_equal(together, np.concatenate(halves))


def test_the_windows_of_a_seed_stay_the_same_for_ever():
    ((windows, _, _), *_) = take(clips_of(5, 8, 300).batches(BatchPlan(6, seed=0)), 1)
    assert windows[:, 0].tolist() == [111, 177, 219, 117, 211, 40]


def test_batches_that_cannot_be():
    with pytest.raises(DataError, match="there are no clips"):
        clips_of().batches(BatchPlan(1, seed=0))
    with pytest.raises(DataError, match="positive multiple of the 2 processes"):
        BatchPlan(3, seed=0, processes=2)


def test_clips_one_by_one():
    clips = clips_of(5, 8, 20)
    assert len(clips) == 3
    assert torch.equal(clips.clip(1), torch.arange(5, 13) / 32768)
    assert torch.equal(clips.clip(-1), clips.clip(2))
    with pytest.raises(IndexError):
        clips.clip(3)
    two = clips.subset(2)
    for index, name in enumerate(two.names):
        assert torch.equal(two.clip(index), clips.clip(int(name)))
    assert clips.subset(1).names == two.names[:1]
    assert sorted(clips.subset(9).names) == ["0", "1", "2"]
    assert len(clips.subset(0)) == 0


# Folders


def test_a_folder_of_speakers(write, folder):
    for index, name in enumerate(("bo/2.wav", "al/deep/9.flac", "al/1.wav", "0.wav")):
        write(name, tone(440, 0.01 * (index + 1)))
    data = opened(folder)
    assert data.speakers == ["al", "bo", "set"]
    assert names(data.train, folder) == ["0.wav", "al/1.wav", "al/deep/9.flac", "bo/2.wav"]
    assert data.train.labels.tolist() == [2, 0, 0, 1]
    assert data.train.classes == data.speakers
    assert data.train.lengths.tolist() == [640, 480, 320, 160]
    for index, name in enumerate(data.train.names):
        assert torch.equal(data.train.clip(index), heard(name, RATE))
    assert (len(data.validation), len(data.test), data.skipped, data.spec.rate) == (0, 0, [], RATE)
    assert data.train.values.dtype == np.int16
    assert data.train.window == 8192


def test_a_single_file_is_of_its_folder(write, folder):
    write("b.wav")
    assert names(opened(write("a.wav")).train, folder) == ["a.wav"]
    assert opened(folder / "a.wav").speakers == ["set"]


def test_mixed_rates_and_channels_are_made_alike_and_said_once(write, folder, caplog):
    for index, rate in enumerate((44100, 16000, 44100, 8000)):
        write(f"{index}.wav", tone(440, 0.25, rate), rate)
    write("4.wav", np.stack([tone(440, 0.25)] * 2, 1), subtype="PCM_24")
    with caplog.at_level(logging.WARNING):
        data = opened(folder)
    assert data.train.lengths.tolist() == [4000] * 5
    assert [pitch(data.train.clip(index).numpy()) for index in range(5)] == [440] * 5
    for note in (
        "files resampled from 44,100 Hz to 16,000 Hz: 2",
        "files resampled from 8,000 Hz to 16,000 Hz: 1",
        "files with several channels, mixed down to one: 1",
    ):
        assert caplog.text.count(note) == 1
    caplog.clear()
    open_sounds(SoundSettings(source=str(folder)), quiet=True)
    assert not caplog.text


def test_librispeech(write, folder, caplog):
    for subset, speaker in (("train-clean-100", 103), ("dev-clean", 84), ("test-other", 61), ("train-other-500", 20)):
        write(f"LibriSpeech/{subset}/{speaker}/7/{speaker}-7-0000.flac")
        (folder / f"LibriSpeech/{subset}/{speaker}/7/{speaker}-7.trans.txt").write_text("words")
    for source in (folder, folder / "LibriSpeech"):
        data = opened(source, strict=True)
        assert data.speakers == ["103", "20", "61", "84"]
        assert data.classes == ["103", "20"]
        # The source's own splits are of other speakers, and so of voices unheard.
        assert sorted(data.unheard.labels.tolist()) == [2, 3]
        assert [len(part) for part in (data.train, data.validation, data.test)] == [2, 0, 0]
    assert "files without a sound extension, skipped: 4 .txt" in caplog.text
    data = opened(folder / "LibriSpeech" / "test-other")
    assert (data.speakers, len(data.train)) == (["61"], 1)


def test_vctk(write, folder, caplog):
    for name in ("p225/p225_001_mic1", "p225/p225_001_mic2", "p280/p280_004_mic2", "s5/s5_002_mic1"):
        write(f"VCTK/wav48_silence_trimmed/{name}.flac")
    data = opened(folder)
    assert data.speakers == ["p225", "p280", "s5"]
    kept = ["p225_001_mic1.flac", "p280_004_mic2.flac", "s5_002_mic1.flac"]
    assert [name.split("/")[-1] for name in data.train.names] == kept
    assert "files of a second microphone (_mic2), skipped: 1" in caplog.text


def test_splits_named_by_folders(write, folder):
    for name in ("train/al/1.wav", "train/bo/2.wav", "val/bo/3.wav", "test/cy/4.wav", "train/5.wav", "6.wav"):
        write(name)
    data = opened(folder, validation=0.5, test=0.0)
    assert data.speakers == ["al", "bo", "set", "cy"]
    parts = (data.train, data.validation, data.test, data.unheard)
    assert [part.labels.tolist() for part in parts] == [[2, 0, 1], [1], [], [3]]
    assert data.skipped == [(str(folder / "6.wav"), "outside the folders train, validation and test")]


def test_held_out_shares(write, folder):
    for index in range(20):
        write(f"{index % 2}/{index:02}.wav")

    def parts(**settings):
        data = opened(folder, **({"validation": 0.1, "test": 0.25} | settings))
        return [names(part, folder) for part in (data.train, data.validation, data.test)]

    train, validation, test = parts()
    assert len({*train, *validation, *test}) == 20
    assert train == sorted(train)
    assert parts(sample_rate=8000) == [train, validation, test]
    assert parts(split_seed=1)[2] != test
    (folder / "0" / "00.wav").write_bytes(b"junk")
    assert parts() == [[name for name in part if name != "0/00.wav"] for part in (train, validation, test)]


def test_held_out_speakers_are_kept_apart(write, folder):
    for speaker, index in itertools.product("abc", range(8)):
        write(f"{speaker}/{index}.wav")
    data = opened(folder, held_out_speakers=["a"], validation=0.25, test=0.25)
    assert data.speakers == ["b", "c", "a"]
    assert data.classes == ["b", "c"]
    assert data.spec == Spec((1, 8192), "sound", ("b", "c"), (-1.0, 1.0), True, RATE)
    assert sorted(names(data.unheard, folder)) == [f"a/{index}.wav" for index in range(8)]
    assert data.unheard.labels.tolist() == [2] * 8
    assert len(data.train) + len(data.validation) + len(data.test) == 16
    assert min(len(data.train), len(data.validation), len(data.test)) > 0
    assert {*data.train.labels, *data.validation.labels, *data.test.labels} == {0, 1}
    assert len(opened(folder).unheard) == 0
    with pytest.raises(DataError, match=r"data\.held_out_speakers names d; the speakers are a, b, c"):
        opened(folder, held_out_speakers=["d"])
    with pytest.raises(DataError, match="has 0 training clips: none is left"):
        opened(folder, held_out_speakers=["a", "b", "c"])
    (folder / "b").rename(folder / "train")
    (folder / "c").rename(folder / "test")
    assert sorted(names(opened(folder).test, folder)) == [f"test/{index}.wav" for index in range(8)]


@pytest.mark.parametrize(("suffix", "mark"), [(".csv", ","), (".tsv", "\t")])
def test_speakers_by_a_table(suffix, mark, write, folder, tmp_path):
    for name in ("x/1.wav", "x/2.wav", "y/3.wav", "y/4.wav"):
        write(name)
    rows = [("length", "file", "speaker"), (1, "x/1.wav", "bo"), (1, "./y/3.wav", "bo"), (1, "x\\2.wav", "al")]
    text = "\n".join(mark.join(map(str, row)) for row in [*rows, (1, "gone.wav", "cy")])
    for place in (tmp_path, folder):
        (place / f"who{suffix}").write_text(text, encoding="utf-8-sig")
    for table in (tmp_path / f"who{suffix}", f"who{suffix}"):
        data = opened(folder, speaker=str(table))
        assert data.speakers == ["al", "bo"]
        assert names(data.train, folder) == ["x/1.wav", "x/2.wav", "y/3.wav"]
        assert data.train.labels.tolist() == [1, 0, 1]
        assert dict(data.skipped) == {
            str(folder / "y/4.wav"): f"not in the table of speakers {table}",
            str(folder / "gone.wav"): f"listed in the table {table}, but does not exist",
        }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"data\.speaker who\.csv cannot be read .*give `folder`, or a \.csv or \.tsv file"),
        (b"\xff\xfe\x00", r"data\.speaker who\.csv cannot be read"),
        (b"file,voice\n1.wav,al", r"who\.csv has no columns `file` and `speaker`, only file, voice"),
        (b"file,speaker\n1.wav,al\n1.wav,bo", r"who\.csv, line 3: 1\.wav has no speaker, or two"),
        (b"file,speaker\n1.wav,", r"who\.csv, line 2: 1\.wav has no speaker"),
        (b"file,speaker\nset/1.wav,al", r"in the table who\.csv: its column `file` must be relative .*such as 1\.wav"),
    ],
)
def test_a_bad_table(text, message, write, folder):
    write("1.wav")
    if text is not None:
        (folder / "who.csv").write_bytes(text)
    with pytest.raises(DataError, match=message):
        opened(folder, speaker="who.csv")


# Bad input


@pytest.fixture
def damaged(write, folder):
    """A folder of two good files and many bad ones; the reasons expected, by file."""
    write("a/good.wav")
    write("b/good.flac")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 40000)
    for name in ("a/cut.flac", "a/cut.wav", "a/cut.aiff", "a/cut.mp3"):
        path = write(name, noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (folder / "b/text.wav").write_text("this is no sound " * 100)
    (folder / "b/text.mp3").write_text("this is no sound " * 100)
    (folder / "b/empty.wav").touch()
    write("b/none.wav", np.zeros(0))
    write("b/one.wav", np.ones(1))
    write("b/one_left.wav", np.zeros(3), rate=48000)
    write("b/slow.wav", np.zeros(100), rate=12)
    write("b/nan.wav", np.array([0.1, np.nan, 0.2]), subtype="FLOAT")
    return {
        "a/cut.flac": "it is damaged or cut short",
        "a/cut.wav": "it is cut short: 39,978 of 80,000 bytes",
        "a/cut.aiff": "it is cut short",
        "a/cut.mp3": "cut short",
        "b/text.wav": "it is not sound, is damaged",
        "b/text.mp3": "it is not sound, is damaged",
        "b/empty.wav": "it is empty",
        "b/none.wav": "fewer than two samples",
        "b/one.wav": "fewer than two samples",
        "b/one_left.wav": "fewer than two samples",
        "b/slow.wav": "12 samples a second",
        "b/nan.wav": "not finite",
    }


def test_bad_files_are_named_and_skipped(damaged, folder, caplog):
    data = opened(folder)
    assert names(data.train, folder) == ["a/good.wav", "b/good.flac"]
    reasons = {file.removeprefix(f"{folder}/"): reason for file, reason in data.skipped}
    assert set(reasons) == set(damaged)
    assert {file: reason for file, reason in damaged.items() if reason not in reasons[file]} == {}
    assert "files skipped: 12\n" in caplog.text
    assert "and 2 more" in caplog.text
    for file, reason in damaged.items():
        with pytest.raises(DataError, match=f"{folder / file} cannot be read: .*{reason}"):
            read_sound(folder / file, RATE)


def test_strict_stops_at_a_bad_file(damaged, folder):
    with pytest.raises(DataError, match=r"set data\.strict=false to skip such files"):
        opened(folder, strict=True)
    for bad, reason in damaged.items():
        with pytest.raises(DataError, match=rf"{folder / bad}: .*{reason}.*data\.strict=false"):
            opened(folder / bad, strict=True)


def test_a_piped_wav_with_no_length_is_whole(write, folder):
    path = write("a.wav")
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff" * 4
    whole = heard(path, RATE)
    path.write_bytes(content)
    assert torch.equal(heard(path, RATE), whole)


def test_a_flac_with_no_length_is_refused(write):
    path = write("a.flac")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(DataError, match="does not state how long it is"):
        read_sound(path, RATE)


def test_silent_and_clipped_files_are_kept_and_said(write, folder, caplog):
    silent = write("silent.wav", np.zeros(1000))
    write("quiet.wav", np.full(1000, STEP))
    loud = tone(440)
    loud[:16] = 1
    write("touching.wav", loud)
    loud[:17] = -1
    clipped = write("clipped.flac", loud)
    both = write("mixed.wav", np.stack([loud, 0 * loud], 1))
    data = opened(folder)
    assert len(data.train) == 5
    assert (data.silent, data.clipped, data.skipped) == ([str(silent)], [str(clipped)], [])
    assert str(both) not in data.clipped
    assert f"silent files, kept: 1\n  {silent}" in caplog.text
    assert f"clipped files (over 0.1% of their samples at full scale), kept: 1\n  {clipped}" in caplog.text


def test_every_file_bad(folder):
    for name in ("1.wav", "2.wav"):
        (folder / name).touch()
    last = rf"the last: {folder}/2\.wav: it is empty"
    with pytest.raises(DataError, match=f"none of the 2 train clips can be read; {last}"):
        opened(folder)


def test_a_missing_or_empty_source(folder):
    with pytest.raises(DataError, match=r"data\.source nowhere does not exist; give a folder, a file, or hf:NAME"):
        opened("nowhere")
    with pytest.raises(DataError, match=rf"{folder} has no sound: data\.source needs a folder of sound files"):
        opened(folder)
    (folder / "notes.txt").write_text("no sound")
    with pytest.raises(DataError, match="has no sound"):
        opened(folder)


def test_nothing_left_to_train_on(write, folder):
    write("1.wav")
    with pytest.raises(DataError, match="has 1 training clips: none is left"):
        opened(folder, validation=0.99)


# Sets laid out as the hub does


@pytest.fixture
def table(folder, monkeypatch, tmp_path_factory):
    """Write a Parquet file of tones, the one of row i i + 1 hundredths of a second long."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("hub"))
    datasets.disable_progress_bars()

    def write_table(split="train", count=3, features=None, **columns):
        cells = []
        for row in range(count):
            content = io.BytesIO()
            soundfile.write(content, tone(440, 0.01 * (row + 1), 48000), 48000, format="FLAC")
            cells.append({"bytes": content.getvalue(), "path": None})
        struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        held = datasets.Dataset.from_dict({"audio": cells}, features=datasets.Features(audio=struct))
        for name, values in columns.items():
            held = held.add_column(name, values)
        features = datasets.Features({**held.features, "audio": datasets.Audio(), **(features or {})})
        held.cast(features).to_parquet(folder / f"{split}-00000-of-00001.parquet")

    return write_table


def test_a_set_of_the_hub(table, folder):
    table(speaker_id=[19, 7, 19])
    table("test", 2, speaker_id=[7, 30])
    for source in (folder, f"hf:{folder}", folder / "train-00000-of-00001.parquet"):
        data = opened(source)
        assert data.train.lengths.tolist() == [160, 320, 480]
        assert data.speakers[:2] == ["19", "7"]
        assert data.train.labels.tolist() == [0, 1, 0]
    data = opened(f"hf:{folder}")
    assert data.speakers == ["19", "7", "30"]
    assert data.test.labels.tolist() == [1]
    assert data.unheard.labels.tolist() == [2]
    assert data.train.names[2] == f"{folder} train row 2"


def test_speakers_of_the_hub(table, folder):
    table(who=[1, 0, 1], features={"who": datasets.ClassLabel(names=["al", "bo"])})
    assert opened(folder).speakers == [str(folder)]
    data = opened(folder, speaker_column="who")
    assert data.speakers == ["al", "bo"]
    assert data.train.labels.tolist() == [1, 0, 1]


def test_a_row_without_a_speaker_is_skipped(table, folder):
    table(speaker=["al", None, "bo"])
    data = opened(folder)
    assert data.skipped == [(f"{folder} train row 1", "it has no speaker")]
    assert data.train.lengths.tolist() == [160, 480]


def test_columns_that_cannot_be_told(table, folder):
    table(other=[1, 2, 3])
    with pytest.raises(DataError, match=r"data\.speaker is who\.csv, but .* has no files: set data\.speaker_column"):
        opened(folder, speaker="who.csv")
    with pytest.raises(DataError, match=r"data\.audio_column is 'sound', but the columns of .* are audio, other"):
        opened(folder, audio_column="sound")
    with pytest.raises(DataError, match=r"data\.speaker_column is 'who', but the columns of .* are audio, other"):
        opened(folder, speaker_column="who")
    with pytest.raises(DataError, match="none of the 3 train clips can be read"):
        opened(folder, audio_column="other")
    table(features={"audio": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}})
    with pytest.raises(DataError, match=r"there is not exactly one column of sound: set data\.audio_column"):
        opened(folder)
    assert len(opened(folder, audio_column="audio").train) == 3


# Settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sample_rate": 0}, "data.sample_rate is 0"),
        ({"window": 0}, "data.window is 0"),
        ({"validation": 1.0}, "data.validation is 1.0"),
        ({"test": -0.1}, "data.test is -0.1"),
        ({"split_seed": -1}, "data.split_seed is -1"),
    ],
)
def test_impossible_settings(settings, message):
    with pytest.raises(DataError, match=message):
        SoundSettings(**({"source": "x"} | settings))


def test_settings_are_read_and_documented_by_jsonargparse():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SoundSettings, "data")
    values = parser.parse_args(["--data.source=x", "--data.window=64", "--data.held_out_speakers=[a, b]"])
    settings = parser.instantiate(values).data
    settings = settings if isinstance(settings, SoundSettings) else SoundSettings(**vars(settings))
    assert settings == SoundSettings(source="x", window=64, held_out_speakers=["a", "b"])
    text = parser.format_help()
    assert all(f"--data.{name}" in text for name in vars(settings))
    assert "the samples of a training window" in text
