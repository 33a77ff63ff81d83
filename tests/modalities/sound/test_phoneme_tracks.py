import logging
import re

import numpy as np
import pytest
import torch

from narrows.data import DataError
from narrows.modalities.sound.phoneme_tracks import PhonemeTrack, read_phonemes


@pytest.fixture
def write(tmp_path):
    """Write a table below `tmp_path`, its columns parted by spaces here; return its path."""

    def write_table(name, *rows):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        separator = "\t" if name.endswith(".tsv") else ","
        path.write_text("".join(row.replace(" ", separator) + "\n" for row in rows), encoding="utf-8")
        return path

    return write_table


def spoken(tracks, name_index=0):
    """A track as (start, phoneme's name) pairs."""
    track = tracks.tracks[name_index]
    return [
        (start, tracks.phonemes[number])
        for start, number in zip(track.starts.tolist(), track.phonemes.tolist(), strict=True)
    ]


# Times


def test_a_phoneme_lasts_from_its_start_till_the_next_with_silence_before_the_first():
    track = PhonemeTrack(np.array([0.25, 0.5, 1.0]), np.array([3, 1, 2]))
    times = [0.0, 0.2499, 0.25, 0.4999, 0.5, 0.75, 1.0, 99.0]
    assert track.at(np.array(times)).tolist() == [0, 0, 3, 3, 1, 1, 2, 2]
    assert track.at(torch.tensor(times).view(2, 4)).tolist() == [[0, 0, 3, 3], [1, 1, 2, 2]]


def test_of_phonemes_that_start_together_the_last_sounds():
    track = PhonemeTrack(np.array([0.0, 0.5, 0.5]), np.array([1, 2, 3]))
    assert track.at(np.array([0.4, 0.5, 0.6])).tolist() == [1, 3, 3]


def test_the_phoneme_of_a_frame_is_that_at_the_centre_of_its_samples():
    # Frames of 4 samples at 8 Hz have their centres at 0.25 s, 0.75 s, 1.25 s and 1.75 s.
    track = PhonemeTrack(np.array([0.25, 0.76, 1.25]), np.array([1, 2, 3]))
    assert track.frames(4, hop=4, sample_rate=8).tolist() == [1, 1, 3, 3]


# Reading


def test_a_folder_that_mirrors_the_sound(write, tmp_path):
    write("speech/en/000.tsv", "start_s phoneme", "0.014 b", "0.043 V", "0.2 t")
    write("speech/de/000.csv", "start_s phoneme", "0 _", "0.5 b")
    write("speech/transcripts.tsv", "file text", "en/000.flac but")
    tracks = read_phonemes(tmp_path / "speech", ["/data/speech/en/000.flac", "/data/speech/de/000.wav"])
    assert tracks.phonemes == ["_", "V", "b", "t"]
    assert spoken(tracks, 0) == [(0.014, "b"), (0.043, "V"), (0.2, "t")]
    assert spoken(tracks, 1) == [(0, "_"), (0.5, "b")]
    assert tracks.missing == []


@pytest.mark.parametrize("form", ["all.tsv", "all.csv"])
def test_one_table_of_all_files_in_any_order_of_files(write, form):
    table = write(form, "file start_s phoneme", "en/0.flac 0 a", "de/0.flac 0.5 b", "en\\0.flac 1 c")
    tracks = read_phonemes(table, ["de/0.flac", "en/0.flac"])
    assert [spoken(tracks, index) for index in (0, 1)] == [[(0.5, "b")], [(0, "a"), (1, "c")]]


def test_names_are_taken_as_they_are(write, tmp_path):
    write("x/0.tsv", "start_s phoneme", '0 "a', "1 AH0", "2 i:", "3 ,", "4 ˈɑ")
    assert [name for _, name in spoken(read_phonemes(tmp_path / "x", ["0.wav"]))] == ['"a', "AH0", "i:", ",", "ˈɑ"]


def test_numbers_do_not_depend_on_the_order_of_clips(write):
    table = write("all.tsv", "file start_s phoneme", "0.wav 0 b", "1.wav 0 a")
    assert read_phonemes(table, ["0.wav", "1.wav"]).phonemes == read_phonemes(table, ["1.wav", "0.wav"]).phonemes


def test_a_relative_name_counts_from_where_one_is(write, tmp_path, monkeypatch):
    write("speech/en/0.tsv", "start_s phoneme", "0 a")
    write("speech/de/0.tsv", "start_s phoneme", "0 b")
    (tmp_path / "speech/en").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / "speech/en")
    assert spoken(read_phonemes("..", ["0.flac"])) == [(0, "a")]


# Matching


def test_a_track_of_another_folder_is_no_track(write, tmp_path, caplog):
    write("speech/en/0.tsv", "start_s phoneme", "0 a")
    with caplog.at_level(logging.WARNING):
        tracks = read_phonemes(tmp_path / "speech", ["/speech/de/0.wav", "/speech/en/0.wav", "/speech/en/1.wav"])
    assert [track is None for track in tracks.tracks] == [True, False, True]
    assert tracks.missing == ["/speech/de/0.wav", "/speech/en/1.wav"]
    assert "2 of 3 clips have no phoneme track and are left out: /speech/de/0.wav, /speech/en/1.wav" in caplog.text


def test_the_track_of_the_longest_path_counts(write, tmp_path):
    for folder, phoneme in (("", "a"), ("en/", "b"), ("train/en/", "c"), ("more/train/en/", "d")):
        write(f"labels/{folder}0.tsv", "start_s phoneme", f"0 {phoneme}")
    assert spoken(read_phonemes(tmp_path / "labels", ["/speech/train/en/0.wav"])) == [(0, "c")]


def test_no_track_for_any_clip_is_an_error(write, tmp_path):
    write("speech/en/0.tsv", "start_s phoneme", "0 a")
    with pytest.raises(DataError, match=r"for none of the 2 sound files, such as hub train row 0: give a folder"):
        read_phonemes(tmp_path / "speech", ["hub train row 0", "hub train row 1"])


def test_two_tracks_of_a_clip_and_two_clips_of_a_track_are_errors(write, tmp_path):
    write("speech/0.tsv", "start_s phoneme", "0 a")
    with pytest.raises(DataError, match=r"0\.tsv is the phoneme track of both /en/0\.wav and /de/0\.wav"):
        read_phonemes(tmp_path / "speech", ["/en/0.wav", "/de/0.wav"])
    write("speech/0.csv", "start_s phoneme", "0 a")
    with pytest.raises(DataError, match=r"0\.csv and 0\.tsv are both the phoneme track of /en/0\.wav"):
        read_phonemes(tmp_path / "speech", ["/en/0.wav"])


# Bad tables


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        (
            ["start_s sound", "0 a"],
            "line 1: a table of phonemes needs the columns `start_s`, `phoneme`; this one has start_s",
        ),
        ([], "line 1: .*; this one has none"),
        (["start_s phoneme"], "no phonemes"),
        (["start_s phoneme", "0 a", "soon b"], "line 3: start_s is 'soon' after 0: .* numbers of seconds"),
        (["start_s phoneme", "nan a"], "line 2: start_s is 'nan'"),
        (["start_s phoneme", "0 a", "inf a"], "line 3: start_s is 'inf'"),
        (["start_s phoneme", "-1 a"], "line 2: start_s is '-1'"),
        (["start_s phoneme", "0.5 a", "", "0.4 b"], "line 4: start_s is '0.4' after 0.5"),
        (["start_s phoneme", "0 a", "0.5"], "line 3: the row lacks a value"),
        (["start_s phoneme", "0 "], "line 2: the row lacks a value"),
    ],
)
def test_a_bad_track_is_named_with_its_line(write, tmp_path, rows, complaint):
    path = write("speech/0.tsv", *rows)
    with pytest.raises(DataError, match=f"{re.escape(str(path))}.*{complaint}"):
        read_phonemes(tmp_path / "speech", ["0.wav"])


def test_starts_fall_only_within_a_file(write):
    rows = ["file start_s phoneme", "a.wav 5 a", "b.wav 1 b", "a.wav 6 a"]
    assert spoken(read_phonemes(write("good.csv", *rows), ["b.wav"])) == [(1, "b")]
    with pytest.raises(DataError, match=r"line 5: start_s is '5\.5' after 6"):
        read_phonemes(write("bad.csv", *rows, "a.wav 5.5 a"), ["b.wav"])


def test_what_is_no_table_is_refused(write, tmp_path):
    with pytest.raises(DataError, match=r"nowhere cannot be read .*No such file.*a folder of \.tsv"):
        read_phonemes(tmp_path / "nowhere", ["0.wav"])
    (tmp_path / "latin.tsv").write_bytes("file\tstart_s\tphoneme\n0.wav\t0\té".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.tsv cannot be read"):
        read_phonemes(tmp_path / "latin.tsv", ["0.wav"])
    # A lone quote in a .csv must not swallow the rows after it.
    with pytest.raises(DataError, match=r"quote\.csv cannot be read"):
        read_phonemes(write("quote.csv", "file start_s phoneme", '0.wav 0 "a', "0.wav 1 b"), ["0.wav"])
