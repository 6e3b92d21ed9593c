"""Where numbers come from, as a reader can look them up."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pdplan.catalog.accelerator import Accelerator, SourcedNumber
from pdplan.compose import World, engine_case
from pdplan.efficiency import Provenance, engine_sources, network_sources
from pdplan.explain.builder import Quantity
from pdplan.plan import Serving
from pdplan.step import Setting
from pdplan.uncertainty import CLASSES, Ground, rows_behind, widening
from pdplan.units import format_money

QUESTION = "the workload"
OBJECTIVE = "the SLO"
PLAN = "the plan"
COUNTED = "counted from the architecture"
IDEAL = "ideal limit"
ENGINE_FORMAT = "activations travel in 16 bit between kernels (pdplan.ops)"


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Quantities of one accelerator under one engine, each with its source."""

    world: World
    serving: Serving
    hardware: str
    setting: Setting
    chunk_given: bool = False
    """The plan says how many tokens a step holds."""

    @property
    def accelerator(self) -> Accelerator:
        return self.world.accelerator(self.hardware)

    def model(self, value: float, unit: str = "") -> Quantity:
        """A number of the architecture."""
        return Quantity(
            float(value),
            unit,
            f"config of {self.serving.model}: {self.world.model(self.serving.model).source}",
        )

    def plan(self, value: float, unit: str = "") -> Quantity:
        return Quantity(float(value), unit, PLAN)

    def peak(self, dtype: str) -> Quantity:
        kind = dtype.partition("-")[0]  # "fp8-block" runs at the peak of "fp8"
        peaks = self.accelerator.peak_flop_per_s
        found = peaks.get(kind) or peaks.get("fp16")  # type: ignore[call-overload]
        source = self._catalog(f"dense {kind} peak", found)
        return Quantity(self.setting.formats.peaks[kind], "FLOP/s", source)

    def bandwidth(self) -> Quantity:
        source = self._catalog("memory bandwidth", self.accelerator.memory.bandwidth_bytes_per_s)
        return Quantity(self.setting.bandwidth_bytes_per_s, "B/s", source)

    def usable(self) -> Quantity:
        source = self._catalog("memory that the driver reports", self.accelerator.memory.usable_bytes)
        return Quantity(self.setting.usable_bytes, "B", source)

    def domain(self) -> Quantity:
        up = self.accelerator.scale_up
        source = self._catalog("scale-up domain", up.domain_size if up else None)
        return Quantity(float(self.setting.constants.links.domain_size), "GPUs", source)

    def scale_up(self) -> Quantity:
        up = self.accelerator.scale_up
        source = self._catalog("scale-up link, one direction", up.bandwidth_bytes_per_s if up else None)
        return Quantity(self.setting.constants.links.scale_up_bytes_per_s, "B/s", source)

    def scale_out(self) -> Quantity:
        out = self.accelerator.scale_out
        source = self._catalog("scale-out link, one direction", out.bandwidth_bytes_per_s if out else None)
        return Quantity(self.setting.constants.links.scale_out_bytes_per_s, "B/s", source)

    def kernel(self, value: float, unit: str, family: str, dtype: str) -> Quantity:
        """A constant of a kernel family."""
        origin = self.setting.constants.origin(family, dtype)
        return Quantity(float(value), unit, f"{family} constants: {described(origin)}")

    def link(self, value: float, unit: str, family: str = "links") -> Quantity:
        """A constant of the collectives; of an engine's own all-reduces, family "all_reduce"."""
        origin = self.setting.constants.origin(family, "")
        return Quantity(float(value), unit, f"collective constants: {described(origin)}")

    def engine(self, name: str, unit: str = "") -> Quantity:
        """A constant of the engine, by the name of its field."""
        value = getattr(self.setting.constants.engine, name)
        if name == "max_step_tokens" and self.chunk_given:
            return Quantity(float(value), unit, f"{PLAN}: chunk_tokens")
        if self.world.ideal:
            return Quantity(float(value), unit, f"engine constants: {IDEAL}")
        case = engine_case(self.serving, self.accelerator)
        origin = engine_sources(case, self.world.engines).get(name, "default")
        return Quantity(float(value), unit, f"{self.serving.engine}, {name}: {origin}")

    def acceptance(self) -> Quantity:
        """The plan's share of accepted drafts; where it is that of measured runs, whose they are."""
        value = self.serving.speculation.acceptance
        measured = self.engine("mtp_acceptance")
        if self.world.ideal or not math.isclose(value, measured.value, rel_tol=1e-9):
            return self.plan(value)
        return Quantity(value, "", f"{PLAN}, as measured: {measured.source}")

    def _catalog(self, what: str, number: SourcedNumber | None) -> str:
        if number is None:
            return f"{self.hardware} catalog entry: no {what}"
        source = self.accelerator.sources[number.source]
        note = f"; {number.note}" if number.note else ""
        return f"{self.hardware} catalog entry, {what}: {source.title}, {source.date}{note}"


def network_constant(world: World, name: str, value: float, unit: str) -> Quantity:
    """A constant of the KV transfer."""
    if world.ideal:
        return Quantity(value, unit, f"network constants: {IDEAL}")
    return Quantity(value, unit, f"KV transfer, {name}: {network_sources().get(name, 'default')}")


def error_source(quantity: str, ground: Ground, confidence: float) -> str:
    """Which measured runs a factor of the error is a quantile of."""
    rows = rows_behind(quantity, ground)
    kinds = ", and ".join(f"{count:,} {what}" for what, count in rows.items())
    wider = widening(quantity, ground)
    words = " and ".join(CLASSES[name] for name in ground.classes)
    found = (
        f"errors.yaml: {confidence:.3g} quantile of measured/predicted {quantity.upper()}, at least 1, over "
        f"{kinds} ({ground.mode})"
    )
    return f"{found}; {words} its logarithm is {wider:.3g} times as large" if wider > 1 else found


def price_source(world: World, hardware: str) -> str:
    """Who asks the price that a plan is costed with."""
    if hardware in world.market.inventory:
        lots = ", ".join(
            f"{lot.gpus:g} at {format_money(lot.usd_per_h)}" for lot in world.market.inventory[hardware]
        )
        return f"price of {hardware}: mean of what the plan buys, idle ones included; inventory: {lots}"
    if hardware in world.prices:
        return f"price of {hardware}: given with the question"
    price = world.accelerator(hardware).default_price(world.market.price_kind, world.market.provider)
    if price is None:
        return f"price of {hardware}: none known; give one with --price {hardware}=..."
    note = f"; {price.note}" if price.note else ""
    return f"price of {hardware}: {price.provider}, {price.kind}, {price.date}{note}"


def power_source(world: World, hardware: str) -> str:
    power = world.accelerator(hardware).power_w
    if power is None:
        return f"power of {hardware}: not in the catalog"
    source = world.accelerator(hardware).sources[power.source]
    note = f"; {power.note}" if power.note else ""
    return f"{hardware} catalog entry, power: {source.title}, {source.date}{note}"


def described(origin: Provenance) -> str:
    """A provenance in a line.

    >>> described(Provenance(source="GEMM tables", scope="measured on h200", rows=36000, median_error=0.08))
    'GEMM tables (measured on h200, 36,000 rows, median error 8.0 %)'
    """
    facts = [origin.scope]
    if origin.rows:
        facts.append(f"{origin.rows:,} rows")
    if origin.median_error is not None:
        facts.append(f"median error {origin.median_error * 100:.1f} %")
    if origin.p90_error is not None:
        facts.append(f"90 % within {origin.p90_error * 100:.1f} %")
    return f"{origin.source} ({', '.join(facts)})"
