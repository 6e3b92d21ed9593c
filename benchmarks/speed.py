"""Speed and memory of pdplan, whole processes and the step function: `python benchmarks/speed.py`.

Prints cold starts (a fresh process each) beside `import numpy` for scale, since wall time on a
shared machine says little alone; where the time of one answer goes; how it grows with
the size of the deployment; and layouts evaluated per second on one core. `--runs 3` is quicker.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

MODEL = ["--model", "deepseek-r1", "--isl", "4k", "--osl", "1k", "--ttft", "2s", "--tpot", "40ms"]
EIGHT = ["h100", "h200", "b200", "gb200", "mi300x", "mi325x", "mi355x", "h20"]
DAY = "5,4,3,3,4,6,9,13,16,18,19,20,20,19,18,17,17,18,19,18,15,12,9,7"
RATES = (3.0, 20.0, 300.0, 4_000.0, 75_000.0)
"""From 16 H200 to about 100,000 of them."""
GPUS = (64, 1_000, 10_000, 100_000)
"""Of budgets, in accelerators and in what they cost."""
BUDGETED = ("deepseek-r1", "gpt-oss-120b", "llama-3.1-70b")
SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 1.0)
"""Of the traffic of fleet.yaml."""
PHASES = """
import json, resource, time
start = time.perf_counter(); cpu = time.process_time()
laps = {}
def lap(name):
    global cpu
    now = time.process_time(); laps[name] = now - cpu; cpu = now
laps["interpreter"] = cpu
import numpy; lap("import numpy")
import typer, pdplan.cli.app, pdplan.inputs, pdplan.search, pdplan.report.recommendation; lap("import pdplan")
from pdplan.catalog.store import Catalog
from pdplan.inputs import given, question_from
from pdplan.report.recommendation import recommendation_report
from pdplan.report.formats.render import render
from pdplan.search import recommend
from pdplan.search.space import spaces
asked = question_from(given(dict(model="deepseek-r1", hardware=HARDWARE, isl="4k", osl="1k", rate=20,
                                 ttft="2s", tpot="40ms")), Catalog()); lap("catalog")
every = list(spaces(asked.question, asked.world)); lap("layouts and laws of worker types")
found = recommend(asked.question, asked.world); lap("search")
laps["search"] -= laps["layouts and laws of worker types"]
render(recommendation_report(found), "text", width=None, colour=False); lap("report")
print(json.dumps(laps))
"""


def timed(arguments: Sequence[str], runs: int) -> tuple[float, float, float]:
    """Least wall seconds, median CPU seconds of a fresh process, and its peak memory in MB."""
    wall, cpu = [], []
    peak = 0.0
    for _ in range(runs):
        start = time.perf_counter()
        process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        wall.append(time.perf_counter() - start)
        assert os.waitstatus_to_exitcode(status) == 0, arguments
        cpu.append(usage.ru_utime + usage.ru_stime)
        peak = max(peak, usage.ru_maxrss / 1024)
    return min(wall), statistics.median(cpu), peak


def print_cold_starts(runs: int) -> None:
    every = [part for name in EIGHT for part in ("--hardware", name)]
    one, recommend = ["--hardware", "h200"], ["-m", "pdplan", "recommend", *MODEL]
    rows = [
        ("python -c 'import numpy'", ["-c", "import numpy"]),
        ("pdplan --help", ["-m", "pdplan", "--help"]),
        ("recommend, one accelerator", [*recommend, *one, "--rate", "20"]),
        ("recommend, eight in both roles", [*recommend, *every, "--rate", "20"]),
        ("recommend, every format open", [*recommend, *one, "--rate", "20", "--precision", "any",
                                          "--kv-precision", "any", "--speculation", "auto"]),
        ("recommend, most goodput of 64", [*recommend, *one, "--max-gpus", "64"]),
        ("recommend, --sensitivity", [*recommend, *one, "--rate", "20", "--sensitivity"]),
        ("day, 24 rates", ["-m", "pdplan", "day", *MODEL, *one, "--rates", DAY]),
    ]  # fmt: skip
    print(f"{'':34}{'least wall s':>14}{'median CPU s':>14}{'peak MB':>10}")
    for name, arguments in rows:
        wall, cpu, peak = timed(arguments, runs)
        print(f"{name:34}{wall:14.3f}{cpu:14.3f}{peak:10.0f}")


def print_phases(runs: int) -> None:
    print("\nWhere the CPU time of one answer goes [s]")
    for title, hardware in (("one accelerator", "h200"), ("eight", ",".join(EIGHT))):
        code = PHASES.replace("HARDWARE", repr(hardware))
        found = [json.loads(subprocess.check_output([sys.executable, "-c", code])) for _ in range(runs)]
        print(f"  {title}")
        for name in found[0]:
            print(f"    {name:34}{statistics.median(f[name] for f in found):8.3f}")


def print_growth(runs: int) -> None:
    """Each row beside the first of its kind: of one run, so that a busy machine slows both."""
    print("\nGrowth with the deployment, one process [CPU s of the search, times the first row of its kind]")
    for title, key, values in (
        ("a rate", "rate", RATES),
        ("accelerators", "max_gpus", GPUS),
        ("dollars", "max_usd_per_h", [n * 3.59 for n in GPUS]),
    ):
        for model in BUDGETED if key != "rate" else BUDGETED[:1]:
            first = None
            for value in values:
                seconds, gpus, served = _least_cpu_s(model, {key: value}, runs)
                first = first or seconds
                name = f"{model}, {title}"
                print(
                    f"  {name:28}{gpus:11,.0f} GPUs{served:13,.0f} req/s{seconds:9.3f}{seconds / first:7.2f}"
                )


def _least_cpu_s(model: str, asked: dict[str, float], runs: int) -> tuple[float, float, float]:
    """Least CPU seconds of the search, accelerators and requests/s of its plan."""
    from pdplan import recommend

    ask = {"model": model, "hardware": "h200", "isl": "4k", "osl": "1k", "ttft": "2s", "tpot": "40ms"}
    seconds, gpus, served = [], float("nan"), float("nan")
    for _ in range(runs):
        start = time.process_time()
        found = recommend(**ask, **asked)  # type: ignore[arg-type]
        seconds.append(time.process_time() - start)
        if found.best:
            gpus, served = found.best.metrics.gpus, found.best.metrics.requests_per_s
    return min(seconds), gpus, served


def print_fleets(runs: int) -> None:
    """Ten deployments on stocks of four kinds of accelerators, from a thousandth of their traffic to all."""
    from pdplan.catalog.store import Catalog
    from pdplan.inputs.fleets import read_fleet
    from pdplan.search.fleets.fleet_plan import plan_fleet

    print("\nTen deployments on one stock, one process [CPU s, gap to the bound]")
    asked = read_fleet(Path(__file__).with_name("fleet.yaml"), Catalog())
    for share in SHARES:
        wanted = [
            replace(
                each,
                question=replace(
                    each.question,
                    workload=each.question.workload.at_rate(each.question.workload.rate * share),
                ),
            )
            for each in asked.wanted
        ]
        seconds = []
        for _ in range(min(runs, 3)):
            start = time.process_time()
            found = plan_fleet(wanted, asked.budgets)
            seconds.append(time.process_time() - start)
        gpus = found.bill.gpus if found.bill else 0
        print(f"  {gpus:9,} GPUs{min(seconds):10.2f}{found.gap:10.3%}")


def print_layouts_per_second() -> None:
    """Decode steps, every layout at 64 batch sizes in one call."""
    import numpy as np

    from pdplan.catalog.store import Catalog
    from pdplan.compose import World, build_setting
    from pdplan.layout import decode_load
    from pdplan.plan import Serving
    from pdplan.search.workers.layouts import layouts
    from pdplan.step import step_time

    catalog = Catalog()
    print("\nLayouts times batches evaluated per second, one core [million]")
    for name, hardware in (("llama-3.1-70b", "h100"), ("deepseek-r1", "h200"), ("deepseek-r1", "gb200")):
        model, accelerator = catalog.model(name), catalog.accelerator(hardware)
        world = World(models={name: model}, accelerators={hardware: accelerator}, prices={})
        serving = Serving(model=name, precision=next(iter(model.checkpoints)), kv_precision="bf16")
        setting = build_setting(world, serving, hardware)
        grid = layouts(setting.stack, accelerator.scale_up_domain_size, accelerator.accelerators_per_node)
        batches = np.geomspace(1, 512, 64)
        load = decode_load(np.tile(batches, (np.size(grid.tp), 1)), 4096, 5120)
        column = grid[:, None]
        rate = per_second(lambda s=setting, c=column, w=load: step_time(s, c, w), load.tokens.size)  # type: ignore[misc]
        print(f"  {name + ' on ' + hardware:34}{rate / 1e6:8.2f}")


def per_second(work: Callable[[], object], items: int) -> float:
    """Items per second of CPU time."""
    work()
    start, count = time.process_time(), 0
    while time.process_time() - start < 1.0:
        work()
        count += items
    return count / (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    print(f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, {runs} runs each")
    print_cold_starts(runs)
    print_phases(runs)
    print_growth(runs)
    print_fleets(runs)
    print_layouts_per_second()
    print(f"\npeak of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
