"""What the names of published launch recipes say of a run, by constants/benchmark_recipes.yaml.

A recipe's name has the workers of both roles, the decode worker's size and kind, the sequences that a rank
decodes at most, the places for experts where some are copied, and the tokens drafted:
ctx1_gen2_dep8_batch64_mtp2, ctx1_gen1_dep32_batch128_eplb288_mtp0.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pdplan.efficiency import CONSTANTS_DIRECTORY
from pdplan.documents.files import read_yaml
from pdplan.measured.run import Run


FILE = CONSTANTS_DIRECTORY / "benchmark_recipes.yaml"
NAME = re.compile(r"ctx(\d+)_gen(\d+)_(tp|tep|dp|dep)(\d+)_batch(\d+)(?:_eplb(\d+))?_mtp(\d)")

PREFILL_GPUS = 4
"""Of a prefill worker in the recipes whose runs were listed by all their accelerators."""


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
    expert_slots: int = 0
    """Places for experts on all ranks of a decode worker, copies included; 0 where none are copied."""

    def speculates_as(self, run: Run) -> bool:
        return (run.spec != "none") == (self.drafted > 0)

    def has_workers_of(self, run: Run) -> bool:
        """Whether a run has this recipe's numbers of workers, and its size of a decode worker."""
        assert run.prefill is not None
        sizes = (run.prefill.workers, run.decode.workers, run.decode.gpus_per_worker)
        return sizes == (self.prefill_workers, self.decode_workers, self.gpus)

    def fits(self, run: Run) -> bool:
        """Whether a run has this recipe's pools and speculates as it does."""
        return (
            self.speculates_as(run) and self.has_workers_of(run) and (run.decode.dp > 1) == self.attention_dp
        )

    @property
    def places(self) -> int:
        """What all ranks of all decode workers decode at once."""
        return self.decode_workers * self.rank_batch * (self.gpus if self.attention_dp else 1)

    def settings(self) -> dict[str, float]:
        """What it says of the server, as benchmark_servers.yaml would."""
        found: dict[str, float] = {"rank_batch": self.rank_batch}
        more = {"drafted": self.drafted, "expert_slots": self.expert_slots}
        return found | {name: value for name, value in more.items() if value}

    def settings_for(self, run: Run) -> dict[str, Any]:
        """The same, and the sizes that ran where the run's are not the recipe's."""
        if self.fits(run):
            return self.settings()
        kind: dict[str, Any] = {"decode_dp": "all" if self.attention_dp else 1, "decode_ep": "all"}
        if not self.has_workers_of(run):
            kind |= {"prefill_workers": self.prefill_workers, "prefill_size": PREFILL_GPUS}
            kind |= {"decode_workers": self.decode_workers, "decode_size": self.gpus}
        return self.settings() | kind


def recipe_for(run: Run, recipes: list[Recipe]) -> Recipe | None:
    """The recipe that a run was started by; None where none fits.

    Of several, the one whose list has the run's requests in flight; where none has, the smallest batch that
    could have been meant (the lists end at 1.05 to 1.35 times what all ranks decode at once), or the largest
    where it holds them all. Where no pools
    fit, the one whose workers do and whose list has the requests in flight (the table has attention-dp wrong),
    or whose accelerators altogether are the tp of both pools (so were runs before 9 December 2025 listed).

    >>> small, large = (list(_parsed(f"ctx1_gen5_tep8_batch{b}_mtp0: {c}"))[0] for b, c in ((1, 6), (32, 90)))
    >>> small.rank_batch, large.rank_batch, large.concurrency
    (1, 32, (90.0,))
    """
    if run.prefill is None:
        return None
    fitting = sorted((r for r in recipes if r.fits(run)), key=lambda r: r.rank_batch)
    exact = [r for r in fitting if run.concurrency in r.concurrency]
    large = [r for r in fitting if run.concurrency <= max(r.concurrency)]
    if fitting:
        most = [fitting[-1]] if run.concurrency <= fitting[-1].places else []
        return next(iter(exact or large or most), None)
    listed = [r for r in recipes if run.concurrency in r.concurrency and r.speculates_as(run)]
    misread = [r for r in listed if r.has_workers_of(run)]
    altogether = run.decode.tp if run.decode == run.prefill and run.decode.workers == 1 else 0
    summed = [r for r in listed if r.prefill_workers * PREFILL_GPUS + r.decode_workers * r.gpus == altogether]
    return next(iter(misread or summed), None)


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
        ctx, gen, kind, gpus, batch, slots, drafted = match.groups()
        yield Recipe(
            prefill_workers=int(ctx),
            decode_workers=int(gen),
            attention_dp=kind in ("dp", "dep"),
            gpus=int(gpus),
            rank_batch=int(batch),
            drafted=int(drafted),
            concurrency=tuple(float(n) for n in numbers.split()),
            expert_slots=int(slots or 0),
        )
