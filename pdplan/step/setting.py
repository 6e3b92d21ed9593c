"""What a step runs on: all of a worker that is not its layout."""

from __future__ import annotations

from dataclasses import dataclass

from pdplan.architecture.stack import Stack
from pdplan.efficiency import Constants
from pdplan.formats import Formats
from pdplan.ops import Routing


@dataclass(frozen=True, kw_only=True, eq=False)
class Setting:
    """A model in certain formats on a certain accelerator under a certain engine: all that is not layout.

    A setting equals itself only, and is kept by that: comparing all of its constants would cost more than
    a step does.
    """

    stack: Stack
    draft: Stack | None = None
    formats: Formats
    bandwidth_bytes_per_s: float
    usable_bytes: float
    constants: Constants
    two_batch: bool = False
    """Whether exchanges with experts of one half of a batch may run beside the kernels of the other."""


def routing_of(setting: Setting) -> Routing:
    """How the engine brings tokens in these formats to experts."""
    engine = setting.constants.engine
    fp4 = setting.formats.precision == "fp4"
    return Routing(
        skew=engine.expert_skew,
        drift=engine.popularity_drift,
        dispatch_bytes=engine.fp4_dispatch_bytes if fp4 else engine.dispatch_bytes,
        combine_bytes=engine.combine_bytes,
        gathered=bool(engine.gathers_tokens),
        sums_prompts=bool(engine.sums_prompts),
    )
