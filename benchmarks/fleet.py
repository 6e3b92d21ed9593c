"""How long fleets take, and how near their bound they come: python benchmarks/fleet.py [FILE ...]

Seconds are of the processor, so that other work on the machine does not count.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from pdplan.catalog.store import Catalog
from pdplan.inputs.fleets import read_fleet
from pdplan.search.fleets.fleet_plan import plan_fleet

ROOT = Path(__file__).parents[1]
FILES = (ROOT / "examples" / "fleet.yaml", Path(__file__).with_name("fleet.yaml"))


def main(files: list[str]) -> None:
    for file in files or [str(f) for f in FILES]:
        asked = read_fleet(file, Catalog())
        started = time.process_time()
        found = plan_fleet(asked.wanted, asked.budgets)
        seconds = time.process_time() - started
        gpus = found.bill.gpus if found.bill else 0
        print(
            f"{Path(file).name} of {Path(file).parent.name}: {len(asked.wanted)} deployments, {gpus:,} GPUs, "
            f"{seconds:.1f} s, gap {found.gap:.3%}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
