import csv
import gzip
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from narrows.data import DataError
from narrows.modalities.motion.tables import Table, read_table, write_table

VALUES = np.random.default_rng(0).normal(size=(7, 3)) * [1e-7, 1, 1e7]
PLAIN = "1,2,3\n4,5.5,-6e1\n7,8,9\n"


def written(tmp_path: Path, text: str, name: str = "a.csv") -> Path:
    (tmp_path / name).write_bytes(text.encode())
    return tmp_path / name


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".npz", ".parquet", ".CSV"])
def test_round_trip_is_exact(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(path, Table(("file", "b c", 'd"e'), VALUES))
    found = read_table(path)
    assert found.names == ("file", "b c", 'd"e')
    np.testing.assert_array_equal(found.values, VALUES)
    assert found.values.dtype == np.float64
    chosen = read_table(path, ['d"e', "file"])
    assert chosen.names == ('d"e', "file")
    np.testing.assert_array_equal(chosen.values, VALUES[:, [2, 0]])


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".npz"])
def test_tables_without_names_are_named_by_position(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    write_table(path, Table((), VALUES))
    assert read_table(path).names == ()
    named = read_table(path, ["x", "y", "z"])
    assert named.names == ("x", "y", "z")
    np.testing.assert_array_equal(named.values, VALUES)
    with pytest.raises(DataError, match="it has 3 columns, but 2 are described: x, y"):
        read_table(path, ["x", "y"])
    with pytest.raises(DataError, match="it has 3 columns, but 4 are described"):
        read_table(path, ["x", "y", "z", "w"])


def test_written_csv_is_read_by_another_program(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv.gz", Table(("a", "b"), VALUES[:, :2]))
    with gzip.open(tmp_path / "a.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    np.testing.assert_array_equal([[float(row["a"]), float(row["b"])] for row in rows], VALUES[:, :2])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (PLAIN, ()),
        (PLAIN.replace("\n", "\r\n"), ()),
        (PLAIN.replace(",", ", "), ()),
        (PLAIN.replace(",", ";"), ()),
        (PLAIN.replace(",", "\t").rstrip(), ()),
        ("a,b,c\n" + PLAIN, ("a", "b", "c")),
        ("\ufeff" + PLAIN, ()),
        ('# a,"b, too",c\n' + PLAIN, ("a", "b, too", "c")),
    ],
    ids=["plain", "crlf", "spaces", "semicolons", "tabs", "header", "bom", "savetxt"],
)
def test_csv_as_other_programs_write_it(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    found = read_table(written(tmp_path, text))
    assert found.names == names
    np.testing.assert_array_equal(found.values, [[1, 2, 3], [4, 5.5, -60], [7, 8, 9]])


def test_a_header_of_numbers_in_order_has_at_least_four(tmp_path: Path) -> None:
    four = read_table(written(tmp_path, "0,1,2,3\n5,6,7,8\n"))
    assert four.names == ("0", "1", "2", "3")
    assert four.values.tolist() == [[5, 6, 7, 8]]
    assert read_table(written(tmp_path, "0,1\n5,6\n")).values.tolist() == [[0, 1], [5, 6]]


@pytest.mark.parametrize("header", [",0,1,2", "time,1,2,3", "time, 0, 1, 2"])
def test_a_header_of_a_name_and_numbers_in_order(tmp_path: Path, header: str) -> None:
    found = read_table(written(tmp_path, f"{header}\n5,6,7,8\n"))
    assert found.names == tuple(name.strip() for name in header.split(","))
    assert found.values.tolist() == [[5, 6, 7, 8]]


def test_text_in_columns_that_are_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, "note,x\nstart,1\n,2\n")
    np.testing.assert_array_equal(read_table(path, ["x"]).values, [[1], [2]])
    with pytest.raises(DataError, match="line 2, column 'note': 'start' is not a number"):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3\n4,5\n6,7,8\n", "line 2: 2 values instead of 3"),
        ("a,b,c\n1,2,3\n4,5,6,7\n", "line 3: 4 values instead of 3"),
        ("1,2,3\n4,x5,6\n", "line 2, column 2: 'x5' is not a number"),
        ("a,b,c\n1,2,3\n4,x5,6\n", "line 3, column 'b': 'x5' is not a number"),
        ("1,2\r3,x\r", "line 2, column 2: 'x' is not a number"),
        ("a,b\n1,\nx,2\n", "line 3, column 'a': 'x' is not a number"),
        ("1;2\n3;0,5\n", "line 2, column 2: '0,5' has a comma as decimal sign"),
        ("1.0,oops,2\n3,4,5\n", "line 1 has both 'oops' and '1.0': it must be names only or numbers only"),
        ("walk,1.5,2.5\nwalk,1.6,2.4\n", "line 1 has both 'walk' and '1.5'"),
        ("x;y\n0,5;1,5\n", "line 2, column 'x': '0,5' has a comma as decimal sign"),
        ("0,5;2\n3;1\n", "line 1: '0,5' has a comma as decimal sign; replace it by a point"),
        ("1,2\n3,nan\n", "row 2, column 2: the value is empty or nan"),
        ("a,b\n1,2\n3,\n", "row 2, column 'b': the value is empty or nan"),
        ("1,2\ninf,3\n", "row 2, column 1: the value is empty or inf"),
        ("a,b\n", "no rows"),
        ("", "no rows"),
        ("\n1,2\n", "no rows"),
    ],
)
def test_bad_csv(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_table(written(tmp_path, text))


def test_missing_and_repeated_columns(tmp_path: Path) -> None:
    path = written(tmp_path, "a,b,b\n1,2,3\n")
    with pytest.raises(DataError, match="no column 'c', only a, b, b"):
        read_table(path, ["a", "c"])
    with pytest.raises(DataError, match="the column 'b' twice"):
        read_table(path, ["b"])


def test_arrays_and_lists_become_numbered_columns(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", trans=VALUES[:, :2].astype(np.float32), yaw=np.arange(7), gender="male", betas=VALUES)
    lists = pa.array(VALUES[:, :2].tolist(), pa.list_(pa.float64(), 2))
    whole = pa.table({"trans": lists, "yaw": np.arange(7), "gender": ["male"] * 7})
    pa.parquet.write_table(whole, tmp_path / "a.parquet")
    for name in ("a.npz", "a.parquet"):
        found = read_table(tmp_path / name, ["yaw", "trans_1"])
        np.testing.assert_allclose(found.values, np.stack([np.arange(7), VALUES[:, 1]], 1), rtol=1e-7)
        with pytest.raises(DataError, match=r"column 'gender' is \S+ of shape"):
            read_table(tmp_path / name)


def test_integers_and_truth_values(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", count=np.arange(3, dtype=np.uint8), contact=[True, False, True])
    np.testing.assert_array_equal(read_table(tmp_path / "a.npz").values, [[0, 1], [1, 0], [2, 1]])


def test_arrays_and_lists_of_different_length(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.arange(7), b=np.arange(6))
    with pytest.raises(DataError, match="column 'b' has 6 rows, but 'a' has 7"):
        read_table(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", a=np.arange(7), b=np.zeros((7, 2, 2)))
    with pytest.raises(DataError, match=r"column 'b' is float64 of shape \(7, 2, 2\), not a number per row"):
        read_table(tmp_path / "a.npz")
    pa.parquet.write_table(pa.table({"a": [[1.0, 2], [3, 4, 5, 6]]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="column 'a' has lists of different length"):
        read_table(tmp_path / "a.parquet")
    pa.parquet.write_table(pa.table({"a": [1.0, None]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 2, column 'a': the value is empty"):
        read_table(tmp_path / "a.parquet")


@pytest.mark.parametrize("name", ["a.npz", "a.parquet", "a.csv.gz"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    write_table(tmp_path / name, Table(("a", "b", "c"), VALUES.repeat(100, 0)))
    content = (tmp_path / name).read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 0xFF] * 8) + content[middle + 8 :]
    for damaged in (b"", b"not a table", content[:middle], flipped):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(DataError):
            read_table(tmp_path / name)


def test_npz_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([{}], object))
    with pytest.raises(DataError, match=r"cannot be read: .*allow_pickle"):
        read_table(tmp_path / "a.npz")


def test_unknown_suffix_and_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a.xlsx is not a table: known are .csv"):
        read_table(tmp_path / "a.xlsx")
    with pytest.raises(DataError, match=r"a.xlsx is not a table"):
        write_table(tmp_path / "a.xlsx", Table((), VALUES))
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "a.csv")
