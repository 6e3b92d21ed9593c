"""What `hardware list` and `hardware show` say: every number with unit, source and date."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pdplan import __version__
from pdplan.catalog.accelerator import Accelerator, SourcedNumber
from pdplan.report.blocks import Bullets, Cell, Headline, Paragraph, Report, table
from pdplan.report.contract_version import SCHEMA_VERSION
from pdplan.units import format_bytes, format_money, format_si

Row = tuple[Cell | str, ...]


def accelerators_report(accelerators: Sequence[Accelerator]) -> Report:
    """A table of accelerators."""
    records = [_summary(a) for a in accelerators]
    rows: list[Row] = [
        (
            r["name"],
            r["vendor"],
            _flop(r["bf16_flop_per_s"]),
            _flop(r["fp8_flop_per_s"]),
            _flop(r["fp4_flop_per_s"]),
            format_bytes(r["memory_capacity_bytes"]),
            format_si(r["memory_bandwidth_bytes_per_s"], "B/s"),
            str(r["scale_up_domain_size"]),
            format_money(r["usd_per_h"]) if r["usd_per_h"] is not None else "none",
            r["confidence"] if r["released"] else f"{r['confidence']}, announced",
        )
        for r in records
    ]
    columns = "name|?vendor|>bf16|>fp8|>?fp4|>memory|>bandwidth|>?domain|>$/h|?confidence"
    return Report(
        blocks=(table("", columns, rows),),
        data={**_header(), "accelerators": records},
        records=tuple(records),
    )


def accelerator_report(accelerator: Accelerator, path: str) -> Report:
    """One accelerator: its numbers, prices, sources and what speaks against them."""
    numbers = [_number(key, number, accelerator) for key, number in accelerator.numbers()]
    default = accelerator.default_price()
    prices: list[dict[str, Any]] = [
        {
            "usd_per_h": p.usd_per_h,
            "kind": p.kind,
            "provider": p.provider,
            "date": p.date,
            "source": p.source,
            "note": p.note,
            "default": p is default,
        }
        for p in accelerator.prices
    ]
    sources: dict[str, dict[str, Any]] = {
        key: {"title": s.title, "reference": s.reference, "date": s.date, "note": s.note}
        for key, s in accelerator.sources.items()
    }
    data = {
        **_header(),
        **_summary(accelerator),
        "generation": accelerator.generation,
        "aliases": list(accelerator.aliases),
        "numbers": numbers,
        "prices": prices,
        "sources": sources,
        "file": path,
        "notes": list(accelerator.notes),
    }
    number_rows: list[Row] = [
        (n["name"], _shown(n), n["confidence"], n["date"], n["source"], n["note"] or "") for n in numbers
    ]
    price_rows: list[Row] = [
        (
            f"{format_money(p['usd_per_h'])}/h",
            p["kind"] + (" (default)" if p["default"] else ""),
            p["provider"],
            p["date"],
            p["source"],
            p["note"] or "",
        )
        for p in prices
    ]
    source_rows: list[Row] = [
        (key, f"{s['title']}: {s['reference']}", s["date"], s["note"] or "") for key, s in sources.items()
    ]
    notes = [*accelerator.notes]
    if accelerator.memory.usable_bytes.value > accelerator.memory.capacity_bytes.value:
        notes.append("the capacity is what the data sheet calls it, in its GB; plans count the usable bytes")
    about: list[Row] = [
        ("generation", accelerator.generation),
        ("aliases", ", ".join(accelerator.aliases) or "none"),
        ("file", path),
    ]
    state = "" if accelerator.released else "; announced only, its numbers are promises"
    blocks = (
        Headline(f"{accelerator.name}: {accelerator.full_name}, {accelerator.confidence} confidence{state}"),
        table("Numbers", "what|>value|?confidence|?date|?source|~note", number_rows),
        table("Prices", ">per hour|~kind|~provider|date|source|~note", price_rows)
        if price_rows
        else Paragraph(
            f"none in the catalog; give your own, e.g. --price {accelerator.name}=2.50", title="Prices"
        ),
        table("Sources", "key|~title and reference|?date|?~note", source_rows),
        table("", "|~", about),
        Bullets(title="Notes", items=tuple(notes)),
    )
    return Report(
        blocks=blocks, data=data, records=tuple({"accelerator": accelerator.name, **n} for n in numbers)
    )


# ------------------------------------------------------------------------ inside


def _header() -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "pdplan_version": __version__}


def _summary(accelerator: Accelerator) -> dict[str, Any]:
    price = accelerator.default_price()
    up, out = accelerator.scale_up, accelerator.scale_out
    return {
        "name": accelerator.name,
        "full_name": accelerator.full_name,
        "vendor": accelerator.vendor,
        "bf16_flop_per_s": accelerator.peak("bf16"),
        "fp8_flop_per_s": accelerator.peak("fp8"),
        "fp4_flop_per_s": accelerator.peak("fp4"),
        "memory_capacity_bytes": accelerator.memory.capacity_bytes.value,
        "memory_usable_bytes": accelerator.memory.usable_bytes.value,
        "memory_bandwidth_bytes_per_s": accelerator.memory.bandwidth_bytes_per_s.value,
        "scale_up_bandwidth_bytes_per_s": up.bandwidth_bytes_per_s.value if up else None,
        "scale_up_domain_size": accelerator.scale_up_domain_size,
        "scale_out_bandwidth_bytes_per_s": out.bandwidth_bytes_per_s.value if out else None,
        "accelerators_per_node": accelerator.accelerators_per_node,
        "power_w": accelerator.power_w.value if accelerator.power_w else None,
        "usd_per_h": price.usd_per_h if price else None,
        "confidence": accelerator.confidence,
        "released": accelerator.released,
    }


def _number(key: str, number: SourcedNumber, accelerator: Accelerator) -> dict[str, Any]:
    return {
        "name": key,
        "value": number.value,
        "unit": _unit(key),
        "source": number.source,
        "date": accelerator.sources[number.source].date,
        "confidence": number.confidence or accelerator.confidence,
        "note": number.note,
    }


def _unit(key: str) -> str:
    if key.startswith("peak_flop_per_s"):
        return "FLOP/s"
    if key.endswith("bytes_per_s"):
        return "B/s"
    if key.endswith("bytes"):
        return "B"
    return "W" if key == "power_w" else "accelerators"


def _shown(number: dict[str, Any]) -> str:
    value, unit = number["value"], number["unit"]
    if unit == "B":
        return f"{value:,.0f} B"
    if unit in ("FLOP/s", "B/s"):
        return format_si(value, unit)
    return f"{value:,.0f} {unit}"


def _flop(value: float | None) -> str:
    return "none" if value is None else format_si(value, "FLOP/s")
