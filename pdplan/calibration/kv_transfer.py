"""Fits the `network.rdma` block: `python -m pdplan.calibration.kv_transfer --shared FOLDER`.

Mooncake's published transfers of one prompt's KV cache between two eight-GPU nodes,
both with NICs of 200 GB/s together. Prints the block for constants/engines.yaml.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pdplan.calibration.fit import rounded
from pdplan.calibration.tables import Columns, Tables
from pdplan.laws.kv_transfer import Network, transfer_time_s
from pdplan.laws.roofline import Array

NODE_BYTES_PER_S = 200e9
"""Line rate of either node: 8 x 200 Gb/s (H800) or 4 x 400 Gb/s (H20-3e)."""
LAYERS = {"Qwen3-8B": 36, "Qwen3-235B": 94}
SOURCE = "mooncake"


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Constants of the network block and how well they fit: |predicted/measured − 1|."""

    efficiency: float
    layer_latency_s: float
    rows: int
    median_error: float
    p90_error: float
    held_out_median_error: float
    """Each of the two deployments under the constants of the other."""


def fit(tables: Tables) -> Fitted:
    """Constants that serve both deployments, and what each says of the other."""
    size, layers, seconds, which = _columns(tables.read_csv("facts/kv_transfer.csv"))
    constants = _minimise(size, layers, seconds)
    error = np.abs(_predict(constants, size, layers) / seconds - 1.0)
    blind = np.concatenate(
        [
            np.abs(
                _predict(_minimise(size[~at], layers[~at], seconds[~at]), size[at], layers[at]) / seconds[at]
                - 1.0
            )
            for at in (which == name for name in np.unique(which))
        ]
    )
    return Fitted(
        efficiency=rounded(float(constants[0]), 3),
        layer_latency_s=rounded(float(constants[1]), 3),
        rows=len(seconds),
        median_error=rounded(float(np.median(error)), 3),
        p90_error=rounded(float(np.percentile(error, 90)), 3),
        held_out_median_error=rounded(float(np.median(blind)), 3),
    )


def render(fitted: Fitted) -> str:
    """The block as YAML."""
    errors = (
        f"rows: {fitted.rows}, median_error: {fitted.median_error}, p90_error: {fitted.p90_error}, "
        f"held_out_median_error: {fitted.held_out_median_error}"
    )
    return (
        "network:\n"
        "  # Written by `python -m pdplan.calibration.kv_transfer`; 20 MB to 12.6 GB, 36 and 94 layers.\n"
        "  rdma:\n"
        f"    efficiency: {{value: {fitted.efficiency}, source: {SOURCE}, {errors}}}\n"
        f'    latency_s: {{value: 0.0, source: {SOURCE}, note: "the layers\' messages explain all of it"}}\n'
        f"    layer_latency_s: {{value: {fitted.layer_latency_s}, source: {SOURCE}}}\n"
    )


def _columns(rows: Columns) -> tuple[Array, Array, Array, Array]:
    models = np.asarray(rows["model"], dtype=str)
    layers = np.array(
        [next(n for name, n in LAYERS.items() if name in model) for model in models], dtype=float
    )
    return rows["kv_size_MB"] * 1e6, layers, rows["transfer_ms"] * 1e-3, models


def _predict(constants: Array, size: Array, layers: Array) -> Array:
    network = Network(
        bandwidth_bytes_per_s=NODE_BYTES_PER_S,
        efficiency=float(constants[0]),
        layer_latency_s=float(constants[1]),
    )
    return transfer_time_s(size, 1.0, network, layers)


def _minimise(size: Array, layers: Array, seconds: Array) -> Array:
    from scipy.optimize import least_squares

    def residuals(x: Array) -> Array:
        return np.asarray(np.log(_predict(np.exp(x), size, layers) / seconds))

    start = np.log([0.8, 1e-5])
    found = least_squares(
        residuals, start, bounds=(np.log([0.05, 1e-8]), np.log([1.0, 1e-3])), loss="soft_l1", f_scale=0.1
    )
    return np.asarray(np.exp(found.x))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: prints the block."""
    parser = argparse.ArgumentParser(prog="python -m pdplan.calibration.kv_transfer", description=__doc__)
    parser.add_argument("--shared", default="../shared", help="folder with facts/ (default: %(default)s)")
    options = parser.parse_args(arguments)
    sys.stdout.write(render(fit(Tables(Path(), Path(options.shared)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
