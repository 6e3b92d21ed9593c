"""Everything that is given: catalog entries by name, prices, the network between pools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pdplan.architecture.model import Model
from pdplan.calibrated import Calibration
from pdplan.catalog.accelerator import Accelerator
from pdplan.market import Lot, Market, Tariff
from pdplan.step import Setting


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """The network between pools as the user states it; None takes the accelerators' own links."""

    bandwidth_bytes_per_s: float | None = None
    latency_s: float | None = None
    round_trip_s: float = 10e-6
    jitter_s: float = 0.0
    loss: float = 0.0
    transport: str = "rdma"


@dataclass(frozen=True, kw_only=True)
class Variation:
    """What a sensitivity analysis turns beside inputs and catalog: factors on fitted constants."""

    engine: tuple[tuple[str, float], ...] = ()
    """(field of Engine, factor)."""
    network: float = 1.0
    """Factor on the bandwidth between pools."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Everything that is given: entries by name, prices, network, whether constants are ideal."""

    models: Mapping[str, Model]
    accelerators: Mapping[str, Accelerator]
    prices: Mapping[str, float]
    network: NetworkSpec = NetworkSpec()
    ideal: bool = False
    varied: Variation = Variation()
    market: Market = field(default_factory=Market)
    calibration: Calibration | None = None
    """The user's own runs, where they were given: constants fitted to them stand in for the shipped ones."""
    constants: Mapping[str, Any] | None = None
    """Stands in for constants/engines.yaml in a fit; None takes the calibration's, or the shipped file."""
    settings: dict[tuple[object, ...], Setting] = field(
        default_factory=dict, init=False, compare=False, repr=False
    )
    """Those that were built of it: plans of one world share them, and what was prepared of them."""

    @property
    def engines(self) -> Mapping[str, Any] | None:
        """The document of engine constants; None is the shipped one."""
        if self.constants is None and self.calibration is not None:
            return self.calibration.document
        return self.constants

    def model(self, name: str) -> Model:
        return self.models[name]

    def accelerator(self, name: str) -> Accelerator:
        return self.accelerators[name]

    def lots(self, hardware: str) -> tuple[Lot, ...]:
        """What there is of an accelerator at which price, cheapest first; the price may be NaN."""
        if hardware in self.market.inventory:
            return self.market.inventory[hardware]
        if hardware in self.prices:
            return (Lot(usd_per_h=self.prices[hardware]),)
        price = self.accelerators[hardware].default_price(self.market.price_kind, self.market.provider)
        if price is None:
            return (Lot(usd_per_h=float("nan")),)
        return (Lot(usd_per_h=price.usd_per_h, kind=price.kind, provider=price.provider, date=price.date),)

    def price(self, hardware: str) -> float:
        """Dollars per accelerator and hour, of the cheapest lot; NaN where none is known."""
        return self.lots(hardware)[0].usd_per_h

    def tariff(self, hardware: str) -> Tariff:
        """What a number of accelerators costs, up to as many as there are."""
        return Tariff(lots=self.lots(hardware), unit=self.market.unit(self.accelerators[hardware]))

    def watts(self, hardware: str) -> float:
        power = self.accelerators[hardware].power_w
        return power.value if power else float("nan")
