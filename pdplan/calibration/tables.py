"""Measured kernel tables, as columns, and the data sheets they are compared with.

    tables = Tables.open("/path/to/aiconfigurator_core-….whl", "../shared")
    rows = tables.read("h200", "gemm")              # {"m": int array, …, "latency_s": float array}
    rows = tables.read("h200", "gemm", engine="vllm")
    rows = tables.read_csv("kernels/deepgemm_h800.csv")
    sheet = tables.sheet("h200")                    # .peak("fp8"), .bandwidth, .generation

`op` is the file name without `_perf.parquet` ("gemm", "moe", "context_attention",
"generation_mla", "custom_allreduce"). Of each engine's versions the newest is read
unless `versions="all"`. Every table gets three columns: `engine` ("vllm", "sglang",
"trtllm", "nccl", …), `version`, and `latency_s` (the tables' `latency`, which is in
milliseconds). Text columns are arrays of str ("" where a table lacks the column),
numbers float64 (nan where it lacks it). A table that does not exist is an empty
dict. Rows without a positive finite latency are dropped.

Needs pyarrow, from the `calibrate` extra.
"""

from __future__ import annotations

import csv
import functools
import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pdplan.documents.files import read_yaml
from pdplan.errors import InputError
from pdplan.laws.kernel import Rates

Columns = dict[str, NDArray[Any]]

FOLDERS: Mapping[str, str] = {
    "a100-sxm-80gb": "a100_sxm",
    "arc-pro-b60": "b60",
    "b200": "b200_sxm",
    "b300": "b300_sxm",
    "gb200": "gb200",
    "gb300": "gb300",
    "h100": "h100_sxm",
    "h200": "h200_sxm",
    "l40s": "l40s",
    "rtx-pro-6000": "rtx_pro_6000_server",
}
"""Accelerators of our catalog and the table folders of theirs."""

GENERATIONS: Mapping[str, tuple[str, ...]] = {
    "ampere": ("a100-sxm-80gb",),
    "ada": ("l40s",),
    "hopper": ("h100", "h200"),
    "blackwell": ("b200", "b300", "gb200", "gb300"),
    "blackwell-rtx": ("rtx-pro-6000",),
    "xe2": ("arc-pro-b60",),
}
"""Accelerators whose tables are pooled into their generation's constants."""

CACHE_BYTES: Mapping[str, float] = {"l40s": 96e6, "rtx-pro-6000": 128e6}
"""Last-level caches that hold much of what a benchmark loop touches, beside a slow memory: there the
tables show products at up to 2.5 times the memory's bandwidth."""

ACCELERATORS = tuple(name for names in GENERATIONS.values() for name in names)

_DATA = "aiconfigurator_core/systems/data"
_CATALOG = Path(__file__).parents[2] / "hardware_catalog"


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The data sheet of one accelerator: what efficiencies are relative to."""

    name: str
    generation: str
    peaks: Mapping[str, float]
    """Dense FLOP/s by arithmetic type."""
    bandwidth: float
    """Bytes/s of device memory."""

    def peak(self, dtype: str) -> float:
        return self.peaks[dtype]

    def rates(self, dtype: str) -> Rates:
        """What a kernel of this arithmetic type may reach."""
        return Rates(peak_flop_per_s=self.peaks[dtype], bandwidth_bytes_per_s=self.bandwidth)


@dataclass(frozen=True)
class Tables:
    """The kernel tables (a wheel or an unpacked package) and the folder of shared tables."""

    package: Path
    shared: Path

    @classmethod
    def open(cls, package: str | Path | None, shared: str | Path) -> Tables:
        """Tables at `package`, or in the installed aiconfigurator-core where it is None."""
        if package is None:
            import importlib.util

            found = importlib.util.find_spec("aiconfigurator_core")
            if found is None or found.origin is None:
                raise InputError(
                    "aiconfigurator-core is not installed; install pdplan[calibrate] or give --tables"
                )
            package = Path(found.origin).parents[1]
        path = Path(package)
        if not path.exists():
            raise InputError(
                f"{path}: there is no such file or folder; give the wheel or its unpacked folder"
            )
        return cls(path, Path(shared))

    def names(self, accelerator: str) -> tuple[str, ...]:
        """The ops that have a table for `accelerator`, sorted."""
        return tuple(sorted({op for op, *_ in self._files(accelerator)}))

    def read(
        self,
        accelerator: str,
        op: str,
        engine: str | None = None,
        versions: Literal["newest", "all"] = "newest",
    ) -> Columns:
        """One op's measurements on one accelerator, engines one after the other."""
        parts = []
        found = [f for f in self._files(accelerator) if f[0] == op and engine in (None, f[1])]
        for name in sorted({f[1] for f in found}):
            of_engine = sorted((f for f in found if f[1] == name), key=lambda f: version_key(f[2]))
            for _, _, version, path in of_engine if versions == "all" else of_engine[-1:]:
                parts.append(self._parquet(path, name, version))
        return stack(parts)

    def read_csv(self, name: str) -> Columns:
        """A table of the shared folder; columns that are all numbers become float64."""
        with (self.shared / name).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return {key: numbers([row[key] for row in rows]) for key in (rows[0] if rows else {})}

    @staticmethod
    @functools.cache
    def sheet(accelerator: str) -> Sheet:
        """The data sheet of a catalog accelerator."""
        data = read_yaml(_CATALOG / f"{accelerator}.yaml").data
        return Sheet(
            name=accelerator,
            generation=str(data["generation"]),
            peaks={k: float(v["value"]) for k, v in data["peak_flop_per_s"].items()},
            bandwidth=float(data["memory"]["bandwidth_bytes_per_s"]["value"]),
        )

    def _files(self, accelerator: str) -> list[tuple[str, str, str, str]]:
        """(op, engine, version, path) of every table of an accelerator."""
        if accelerator not in FOLDERS:
            return []
        root = f"{_DATA}/{FOLDERS[accelerator]}/"
        found = []
        for path in _listing(self.package):
            if root in path and path.endswith("_perf.parquet"):
                _, engine, version, file = path.rsplit("/", 3)
                found.append((file.removesuffix("_perf.parquet"), engine, version, path))
        return sorted(found)

    def _parquet(self, path: str, engine: str, version: str) -> Columns:
        import pyarrow.parquet as pq  # type: ignore[import-not-found,import-untyped,unused-ignore]

        if self.package.is_file():
            with zipfile.ZipFile(self.package) as archive:
                table = pq.read_table(io.BytesIO(archive.read(path)))
        else:
            table = pq.read_table(self.package / path)
        columns: Columns = {}
        for name in table.column_names:
            values = table.column(name).to_numpy(zero_copy_only=False)
            is_text = values.dtype.kind in "OUS"
            columns[name] = values.astype(str) if is_text else values.astype(float)
        rows = table.num_rows
        has_latency = "latency" in columns  # DeepEP's tables keep their times in columns of their own
        columns["latency_s"] = columns.pop("latency") / 1e3 if has_latency else np.full(rows, np.nan)
        columns["engine"], columns["version"] = np.full(rows, engine), np.full(rows, version)
        valid = (np.isfinite(columns["latency_s"]) & (columns["latency_s"] > 0)) | (not has_latency)
        return {key: values[valid] for key, values in columns.items()}


@functools.cache
def _listing(package: Path) -> tuple[str, ...]:
    if package.is_file():
        with zipfile.ZipFile(package) as archive:
            return tuple(archive.namelist())
    return tuple(sorted(str(p.relative_to(package)) for p in package.glob(f"**/{_DATA}/**/*.parquet")))


def stack(parts: list[Columns]) -> Columns:
    """Tables one below the other; what a table lacks is nan or ""."""
    if not parts:
        return {}
    names = sorted({name for part in parts for name in part})
    return {name: np.concatenate(list(_pieces(parts, name))) for name in names}


def _pieces(parts: list[Columns], name: str) -> Iterator[NDArray[Any]]:
    text = any(name in part and part[name].dtype.kind == "U" for part in parts)
    for part in parts:
        rows = len(part["latency_s"])
        if name not in part:
            yield np.full(rows, "" if text else np.nan)
        else:
            yield part[name].astype(str) if text else part[name]


def version_key(version: str) -> tuple[tuple[int, int | str], ...]:
    """Sorts 0.9.0 before 0.10.0, and 1.3.0rc20 before 1.3.0.

    >>> sorted(["1.3.0", "1.3.0rc20", "1.3.0rc9", "1.10.0"], key=version_key)
    ['1.3.0rc9', '1.3.0rc20', '1.3.0', '1.10.0']
    """
    parts = re.findall(r"\d+|[a-z]+", version)
    return (*((2, int(p)) if p.isdigit() else (0, p) for p in parts), (1, ""))


def numbers(values: list[str]) -> NDArray[Any]:
    """A column of a table as numbers, or as text where one is none."""
    try:
        return np.array([float(v) if v else np.nan for v in values])
    except ValueError:
        return np.array(values)
