"""Reading time series: our checked reader of tables compared with pyarrow alone, on gzipped CSV files of robot motions.

    python -m benchmarks.tables [--data FOLDER] [--repeats 7]

Without a folder, it writes 20 files of 5,000 frames and 36 columns with six decimals.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.csv

from benchmarks.timing import medians
from narrows.modalities.motion.tables import read_table


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a folder of .csv.gz files without a header")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds")
    settings = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = sorted((settings.data or written(Path(folder))).glob("*.csv.gz"))
        options = pyarrow.csv.ReadOptions(autogenerate_column_names=True)
        alone, ours = medians(
            [
                lambda: [pyarrow.csv.read_csv(file, options) for file in files],
                lambda: [read_table(file) for file in files],
            ],
            "cpu",
            settings.repeats,
        )
    print("| files | pyarrow s | ours s | ours / pyarrow |")
    print("|" + " ---: |" * 4)
    print(f"| {len(files)} | {alone:.2f} | {ours:.2f} | {ours / alone:.2f} |")


def written(folder: Path) -> Path:
    """Write files of random numbers, and return their folder."""
    generator = np.random.default_rng(0)
    for number in range(20):
        with gzip.open(folder / f"{number}.csv.gz", "wt", compresslevel=6) as file:
            np.savetxt(file, generator.normal(size=(5000, 36)), "%.6f", ",")
    return folder


if __name__ == "__main__":
    main()
