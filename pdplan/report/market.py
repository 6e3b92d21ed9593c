"""What a plan buys, from whom and at which price."""

from __future__ import annotations

from typing import Any

from pdplan.compose import World, plan_bill
from pdplan.market import Bill, Lot, Market
from pdplan.plan import Plan
from pdplan.report.blocks import Block, Cell, Paragraph, table
from pdplan.report.words import counted
from pdplan.units import format_money


def market_json(market: Market) -> dict[str, Any] | None:
    """What was asked of the market; null where nothing was."""
    if market == Market():
        return None
    return {
        "price_kind": market.price_kind,
        "provider": market.provider,
        "granularity": market.granularity,
        "inventory": {name: [_lot_json(lot) for lot in lots] for name, lots in market.inventory.items()},
    }


def bill_json(bill: Bill) -> dict[str, Any]:
    """The `bill`: what is bought of each lot. Prices are null where none is known."""
    return {
        "lines": [
            {
                "hardware": line.hardware,
                "gpus": line.gpus,
                "usd_per_gpu_h": line.lot.usd_per_h,
                "usd_per_h": line.usd_per_h,
                **_seller_json(line.lot),
            }
            for line in bill.lines
        ],
        "gpus": bill.gpus,
        "idle_gpus": bill.idle_gpus,
        "missing_gpus": dict(bill.missing),
        "usd_per_h": bill.usd_per_h,
    }


def bill_blocks(plan: Plan, world: World) -> list[Block]:
    """The bill in words, where the user asked for more than list prices."""
    return bill_table(plan_bill(world, plan), world) if world.market != Market() else []


def bill_table(bill: Bill, world: World) -> list[Block]:
    """A line a lot, then what stays idle and what is missing."""
    rows: list[tuple[Cell | str, ...]] = []
    for line in bill.lines:
        lot = line.lot
        priced = lot.usd_per_h == lot.usd_per_h
        rows.append(
            (
                line.hardware,
                f"{line.gpus:,}",
                there_words(lot),
                lot.label + (f", {lot.date}" if lot.date else ""),
                f"{format_money(lot.usd_per_h)}/h" if priced else "no price",
                f"{format_money(line.usd_per_h)}/h" if priced else "",
            )
        )
    blocks: list[Block] = [table("Bill", "accelerator|>taken|>of|price|>each|>cost", rows)]
    if bill.idle_gpus:
        unit = {"node": "whole nodes", "rack": "whole racks"}.get(world.market.granularity, "")
        blocks.append(Paragraph(f"{counted(bill.idle_gpus, 'GPU')} of them idle: {unit} are bought"))
    for name, count in bill.missing.items():
        blocks.append(Paragraph(f"{counted(count, name, name)} more than the inventory has", style="bad"))
    return blocks


def there_words(lot: Lot) -> str:
    """How many there are; "any" without a limit."""
    return f"{lot.gpus:,.0f}" if lot.gpus < float("inf") else "any"


# ------------------------------------------------------------------------ inside


def _lot_json(lot: Lot) -> dict[str, Any]:
    return {"gpus": lot.gpus, "usd_per_gpu_h": lot.usd_per_h, **_seller_json(lot)}


def _seller_json(lot: Lot) -> dict[str, Any]:
    return {"kind": lot.kind or None, "provider": lot.provider or None, "date": lot.date or None}
