"""What the names of published launch recipes say of a run, by constants/benchmark_recipes.yaml.

A recipe's name has the workers of both roles, the decode worker's size and kind, the sequences that a rank
decodes at most, and the tokens drafted: ctx1_gen2_dep8_batch64_mtp2.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.files import read_yaml
from pdplan.measured.run import Run


FILE = CONSTANTS_DIRECTORY / "benchmark_recipes.yaml"
NAME = re.compile(r"ctx(\d+)_gen(\d+)_(tp|tep|dp|dep)(\d+)_batch(\d+)_mtp(\d)")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe, and how many requests in flight it was run with."""

    prefill_workers: int
    decode_workers: int
    attention_dp: bool
    gpus: int
    """Of one decode worker."""
    rank_batch: int
    """Sequences that an attention rank decodes at most."""
    drafted: int
    concurrency: tuple[float, ...]

    def fits(self, run: Run) -> bool:
        """Whether a run has this recipe's pools and speculates as it does."""
        if run.prefill is None or (run.spec != "none") != (self.drafted > 0):
            return False
        return (run.prefill.workers, run.decode.workers, run.decode.dp > 1, run.decode.gpus_per_worker) == (
            self.prefill_workers,
            self.decode_workers,
            self.attention_dp,
            self.gpus,
        )

    def settings(self) -> dict[str, float]:
        """What it says of the server, as benchmark_servers.yaml would."""
        found: dict[str, float] = {"rank_batch": self.rank_batch}
        return found | ({"drafted": self.drafted} if self.drafted else {})


def recipe_for(run: Run, recipes: list[Recipe]) -> Recipe | None:
    """The recipe that a run was started by; None where none fits.

    Of several, the one whose list has the run's requests in flight; where none has, the smallest batch that
    could have been meant (the lists end at 1.05 to 1.35 times what all ranks decode at once).

    >>> small, large = (list(_parsed(f"ctx1_gen5_tep8_batch{b}_mtp0: {c}"))[0] for b, c in ((1, 6), (32, 90)))
    >>> small.rank_batch, large.rank_batch, large.concurrency
    (1, 32, (90.0,))
    """
    fitting = sorted((r for r in recipes if r.fits(run)), key=lambda r: r.rank_batch)
    exact = [r for r in fitting if run.concurrency in r.concurrency]
    large = [r for r in fitting if run.concurrency <= max(r.concurrency)]
    return next(iter(exact or large or fitting[-1:]), None)


@functools.cache
def recipe_lists() -> tuple[tuple[Mapping[str, Any], list[Recipe]], ...]:
    """Conditions on a run, and the recipes that runs of that kind were started by."""
    entries = read_yaml(FILE).data["recipes"]
    return tuple((entry["where"], list(_parsed(entry["names"]))) for entry in entries)


def _parsed(text: str) -> Iterator[Recipe]:
    for line in text.splitlines():
        name, _, numbers = line.partition(":")
        match = NAME.fullmatch(name.strip())
        if match is None:
            raise ValueError(f"{FILE}: '{name}' is no recipe's name")
        ctx, gen, kind, gpus, batch, drafted = match.groups()
        yield Recipe(
            prefill_workers=int(ctx),
            decode_workers=int(gen),
            attention_dp=kind in ("dp", "dep"),
            gpus=int(gpus),
            rank_batch=int(batch),
            drafted=int(drafted),
            concurrency=tuple(float(n) for n in numbers.split()),
        )
