"""What `--sensitivity` adds to the report of an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pdplan.report.blocks import Block
from pdplan.report.breakeven import break_even_blocks, break_even_json, break_even_records
from pdplan.report.sensitivity import sensitivity_blocks, sensitivity_json, sensitivity_records
from pdplan.search.what_if.breakeven import BreakEven
from pdplan.search.what_if.sensitivity import Sensitivity


@dataclass(frozen=True, kw_only=True)
class Why:
    """Sensitivity and break-even points of one answer."""

    sensitivity: Sensitivity
    break_even: BreakEven

    def blocks(self) -> list[Block]:
        return sensitivity_blocks(self.sensitivity) + break_even_blocks(self.break_even)

    def json(self) -> dict[str, Any]:
        return {
            "sensitivity": sensitivity_json(self.sensitivity),
            "break_even": break_even_json(self.break_even),
        }

    def records(self) -> list[dict[str, Any]]:
        return sensitivity_records(self.sensitivity) + break_even_records(self.break_even)
