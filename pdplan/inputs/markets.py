"""Inventory, kinds and providers of prices, whole nodes: what there is to buy, and at which price.

A flag says `h100=16`, `h100=16:reserved`, `h100=16@2.10`, `h100=any@3.90`; a file the same in text,
or `{count: 16, kind: reserved, price: 2.10, provider: Nebius}`, or a list of either.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from pdplan.catalog.accelerator import PRICE_KIND_ORDER, Accelerator, PriceKind
from pdplan.errors import nearest, quoted_list
from pdplan.inputs.given import Findings, Given, Values
from pdplan.inputs.names import Entries
from pdplan.inputs.quantities import MAX_GPUS, choice
from pdplan.market import GRANULARITIES, Granularity, Lot, Market
from pdplan.units import parse_money

ANY = "any"
_LOT = re.compile(r"\s*(?P<count>[^:@\s]+)\s*(?::\s*(?P<kind>[^@]*?)\s*)?(?:@\s*(?P<price>.+?)\s*)?")
_EXAMPLE = "write NAME=COUNT, NAME=COUNT:KIND or NAME=COUNT@DOLLARS, e.g. h100=16@2.10 (any: no limit)"


@dataclass(frozen=True)
class _Asked:
    """One lot as the user wrote it."""

    count: float
    kind: PriceKind | None
    provider: str | None
    price: float | None
    where: str


def market_from(values: Values, entries: Entries, prices: Mapping[str, float], findings: Findings) -> Market:
    """The market of the accelerators in `entries`; prices that the user gave go before the catalog's."""
    kind = _kind(values["price_kind"], findings) if "price_kind" in values else None
    granularity: Granularity = "gpu"
    if "granularity" in values:
        chosen = choice(values["granularity"], GRANULARITIES, findings)
        granularity = cast(Granularity, chosen or "gpu")
    asked = _inventory(values, entries, findings)
    known = [*entries.accelerators.values(), *(a for a, _ in asked.values())]
    provider = _provider(values["provider"], known, findings) if "provider" in values else None
    inventory: dict[str, tuple[Lot, ...]] = {}
    for name, (accelerator, lots) in asked.items():
        priced = [_priced(lot, accelerator, prices, kind, provider, findings) for lot in lots]
        inventory[name] = tuple(sorted(priced, key=lambda lot: (math.isnan(lot.usd_per_h), lot.usd_per_h)))
    for key in ("price_kind", "provider"):
        if key in values:
            without = [a for n, a in entries.accelerators.items() if n not in prices and n not in inventory]
            _require(values[key], kind, provider, without, findings)
            break
    return Market(price_kind=kind, provider=provider, granularity=granularity, inventory=inventory)


def inventory_names(values: Values) -> list[str]:
    """Accelerators that the inventory names, as written: the choice where no other is given."""
    if "inventory" not in values:
        return []
    return list(dict.fromkeys(name for name, _, _ in _items(values["inventory"], Findings())))


# ------------------------------------------------------------------------ inside


def _inventory(
    values: Values, entries: Entries, findings: Findings
) -> dict[str, tuple[Accelerator, list[_Asked]]]:
    """By the accelerators' own names."""
    found: dict[str, tuple[Accelerator, list[_Asked]]] = {}
    if "inventory" not in values:
        return found
    for name, entry, where in _items(values["inventory"], findings):
        accelerator = findings.attempt_at(where, entries.catalog.accelerator, name)
        lot = _lot(entry, where, findings)
        if accelerator is not None and lot is not None:
            found.setdefault(accelerator.name, (accelerator, []))[1].append(lot)
    return found


def _items(given: Given, findings: Findings) -> Iterable[tuple[str, Any, str]]:
    """(name, one lot as written, where) out of a mapping, or of texts such as h100=16."""
    if isinstance(given.value, Mapping):
        for name, entry in given.value.items():
            inner = entry if isinstance(entry, Given) else Given(entry, f"{given.where} {name}")
            many = inner.value if isinstance(inner.value, list | tuple) else [inner.value]
            for lot in many:
                yield name, lot, inner.where
        return
    texts = list(given.value) if isinstance(given.value, list | tuple) else [given.value]
    for text in (t for many in texts for t in str(many).split(",")):
        name, equals, rest = text.partition("=")
        if not equals or not name.strip() or not rest.strip():
            findings.say(given.where, f"'{text}' is no inventory; {_EXAMPLE}")
        else:
            yield name.strip(), rest, f"{given.where} {name.strip()}"


def _lot(entry: Any, where: str, findings: Findings) -> _Asked | None:
    if isinstance(entry, Mapping):
        parts = {k: v.value if isinstance(v, Given) else v for k, v in entry.items()}
        parts = {k: v for k, v in parts.items() if v is not None}
    else:
        match = _LOT.fullmatch(str(entry))
        if match is None:
            findings.say(where, f"'{entry}' is no number of accelerators; {_EXAMPLE}")
            return None
        parts = {k: v for k, v in match.groupdict().items() if v}
    count = _count(parts.get("count", ANY), where, findings)
    kind = _kind(Given(parts["kind"], where), findings) if "kind" in parts else None
    price = None
    if "price" in parts:
        price = findings.attempt(parse_money, parts["price"], name=where, allow_zero=False)
    if price is not None and price > 1000:
        findings.say(where, f"${price:,.2f} per accelerator and hour is out of range; expected up to $1,000")
    if count is None:
        return None
    provider = str(parts["provider"]) if "provider" in parts else None
    return _Asked(count, kind, provider, price, where)


def _count(value: Any, where: str, findings: Findings) -> float | None:
    if str(value).strip().casefold() == ANY:
        return math.inf
    try:
        found = float(str(value).replace(",", "").replace("_", ""))
    except ValueError:
        found = math.nan
    if isinstance(value, bool) or not 1 <= found <= MAX_GPUS or found != int(found):
        findings.say(where, f"'{value}' is no number of accelerators; expected 1 to {MAX_GPUS:,}, or any")
        return None
    return found


def _kind(given: Given, findings: Findings) -> PriceKind | None:
    return cast("PriceKind | None", choice(given, PRICE_KIND_ORDER, findings))


def _provider(given: Given, accelerators: Iterable[Accelerator], findings: Findings) -> str | None:
    """The provider as the catalog writes it."""
    known = {p.provider.casefold(): p.provider for a in accelerators for p in a.prices}
    asked = str(given.value).strip().casefold()
    if asked in known or not known:
        return known.get(asked)
    close = nearest(asked, known.values())
    hint = (
        f"did you mean {quoted_list(close)}?" if close else f"the catalog knows {', '.join(known.values())}"
    )
    findings.say(given.where, f"no price of '{given.value}' for these accelerators; {hint}")
    return None


def _priced(
    lot: _Asked,
    accelerator: Accelerator,
    prices: Mapping[str, float],
    kind: PriceKind | None,
    provider: str | None,
    findings: Findings,
) -> Lot:
    """The lot with the price that it names, else the user's, else the catalog's of its kind."""
    given = lot.price
    if given is None and lot.kind is None and lot.provider is None:
        given = prices.get(accelerator.name)
    if given is not None:
        return Lot(usd_per_h=given, gpus=lot.count, kind=lot.kind or "", provider=lot.provider or "")
    seller = lot.provider or provider
    if lot.provider is not None:
        seller = _provider(Given(lot.provider, lot.where), [accelerator], findings) or seller
    found = accelerator.default_price(lot.kind or kind, seller)
    if found is None:
        if lot.kind or lot.provider:
            wanted = Given(lot.kind or lot.provider, lot.where)
            _require(wanted, lot.kind, lot.provider, [accelerator], findings)
        return Lot(usd_per_h=math.nan, gpus=lot.count)
    return Lot(
        usd_per_h=found.usd_per_h, gpus=lot.count, kind=found.kind, provider=found.provider, date=found.date
    )


def _require(
    given: Given,
    kind: PriceKind | None,
    provider: str | None,
    accelerators: Iterable[Accelerator],
    findings: Findings,
) -> None:
    """Every accelerator must have such a price: prices of different kinds are not to be compared unawares."""
    for accelerator in accelerators:
        if accelerator.default_price(kind, provider) is not None:
            continue
        offered = dict.fromkeys(f"{p.provider} {p.kind}" for p in accelerator.prices)
        there = f"it has {', '.join(offered)}" if offered else "it has none at all"
        what = " ".join(word for word in (provider, kind) if word)
        findings.say(
            given.where,
            f"the catalog has no {what} price of {accelerator.name} ({there}); give one, e.g. "
            f"--price {accelerator.name}=2.50",
        )
