"""Seconds of `pdplan validate` on ten thousand runs: `python benchmarks/validate.py RUNS.csv`.

Rows of the file are repeated under new ids, each at a concurrency of its own, so that no two are alike.
Whole process, one core (set OMP_NUM_THREADS=1).
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

ROWS, RUNS = 10_000, 3


def many_rows(source: Path, target: Path) -> None:
    """ROWS rows out of the source's."""
    with source.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        for number, row in enumerate(islice(cycle(rows), ROWS)):
            turn = number // len(rows)
            writer.writerow(
                row | {"id": f"{row['id']}-{turn}", "concurrency": int(row["concurrency"]) + turn}
            )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.csv"
        many_rows(Path(sys.argv[1]), path)
        seconds = []
        for _ in range(RUNS):
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "pdplan", "validate", str(path)], check=True, stdout=subprocess.DEVNULL
            )
            seconds.append(time.perf_counter() - start)
    print(f"validate, {ROWS:,} runs: {min(seconds):.2f} s at best of {RUNS}, {max(seconds):.2f} s at worst")


if __name__ == "__main__":
    main()
