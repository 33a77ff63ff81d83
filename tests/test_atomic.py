from pathlib import Path

import pytest

from narrows.atomic import remove_leftovers, whole_file, whole_folder


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with whole_file(target) as aside:
        aside.write_text("all of it")
        assert not target.exists()
    assert target.read_text() == "all of it"
    assert list(target.parent.iterdir()) == [target]


def fill_the_disk(target: Path) -> None:
    with whole_file(target) as aside:
        aside.write_text("half")
        raise OSError(28, "No space left on device")


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(OSError, match="No space left"):
        fill_the_disk(target)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "step-1"
    with whole_folder(target) as aside:
        (aside / "weights").write_text("w")
        assert not target.exists()
    assert (target / "weights").read_text() == "w"


def stop_in_an_empty_folder(target: Path) -> None:
    with whole_folder(target) as aside:
        assert list(aside.iterdir()) == []
        raise RuntimeError("stop")


def test_a_folder_left_by_a_kill_is_cleared_and_an_error_leaves_none(tmp_path: Path) -> None:
    target = tmp_path / "step-1"
    (tmp_path / ".step-1.tmp").mkdir()
    (tmp_path / ".step-1.tmp" / "stale").touch()
    with pytest.raises(RuntimeError, match="stop"):
        stop_in_an_empty_folder(target)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    for name in (".file.txt.123.tmp", ".hidden", "file.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {".hidden", "file.tmp"}


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as error, whole_file(tmp_path):
        pass
    assert error.value.filename == str(tmp_path)
