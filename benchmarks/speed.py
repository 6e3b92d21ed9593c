"""Speed and memory of pdplan, whole processes and the step function: `python benchmarks/speed.py`.

Prints the minimum and median of cold starts (a fresh process each), a bare
Python start beside them for scale, peak memory, and layouts evaluated per second on one core.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time

QUESTION = [
    "recommend",
    "--model",
    "deepseek-r1",
    "--hardware",
    "h200",
    "--isl",
    "4k",
    "--osl",
    "1k",
    "--rate",
    "20",
    "--ttft",
    "2s",
    "--tpot",
    "40ms",
]
EIGHT = ["h100", "h200", "b200", "gb200", "mi300x", "mi325x", "mi355x", "h20"]
RUNS = 7


def timed(arguments: list[str]) -> tuple[float, float, float]:
    """Minimum and median seconds of a fresh process, and its peak memory in MB."""
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return min(seconds), statistics.median(seconds), peak


def layouts_per_second() -> dict[str, float]:
    """Decode steps of DeepSeek-R1 on H200, every layout at 64 batch sizes in one call."""
    import numpy as np

    from pdplan.catalog.store import Catalog
    from pdplan.compose import World, build_setting
    from pdplan.layout import decode_load
    from pdplan.plan import Serving
    from pdplan.search.layouts import layouts
    from pdplan.step import step_time

    catalog = Catalog()
    found = {}
    for name, hardware in (("llama-3.1-70b", "h100"), ("deepseek-r1", "h200"), ("deepseek-r1", "gb200")):
        model, accelerator = catalog.model(name), catalog.accelerator(hardware)
        world = World(models={name: model}, accelerators={hardware: accelerator}, prices={})
        precision = next(iter(model.checkpoints))
        setting = build_setting(
            world, Serving(model=name, precision=precision, kv_precision="bf16"), hardware
        )
        grid = layouts(setting.stack, accelerator.scale_up_domain_size, accelerator.accelerators_per_node)
        batches = np.geomspace(1, 512, 64)
        load = decode_load(np.tile(batches, (np.size(grid.tp), 1)), 4096, 5120)
        column = grid[:, None]
        step_time(setting, column, load)
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < 1.0:
            step_time(setting, column, load)
            count += np.size(grid.tp) * len(batches)
        found[f"{name} on {hardware}"] = count / (time.perf_counter() - start)
    return found


def main() -> None:
    eight = [part for name in EIGHT for part in ("--hardware", name)]
    rest = [part for part in QUESTION if part not in ("--hardware", "h200")]
    rows = [
        ("python -c pass", ["-c", "pass"]),
        ("pdplan --help", ["-m", "pdplan", "--help"]),
        ("pdplan recommend, one accelerator", ["-m", "pdplan", *QUESTION]),
        ("pdplan recommend, eight accelerators", ["-m", "pdplan", *rest, *eight]),
    ]
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {RUNS} cold runs each")
    print(f"{'':38}{'min s':>8}{'median s':>10}{'peak MB so far':>16}")
    for name, arguments in rows:
        low, middle, peak = timed(arguments)
        print(f"{name:38}{low:8.3f}{middle:10.3f}{peak:16.0f}")
    print()
    for name, rate in layouts_per_second().items():
        print(f"{name:38}{rate / 1e6:8.2f} million layouts per second, one core")


if __name__ == "__main__":
    main()
