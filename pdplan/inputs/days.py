"""A question with a rate for every period becomes a Question at the highest rate and a Day."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pdplan.catalog.store import Catalog
from pdplan.documents.file_kinds import expect, read_kind
from pdplan.documents.files import Document
from pdplan.documents.validation import validate
from pdplan.errors import InputError
from pdplan.inputs.given import Findings, Given, Values, given_in
from pdplan.inputs.names import Entries
from pdplan.inputs.questions import Asked, question_from, with_paths
from pdplan.inputs.rates import Rates, listed_rates, read_rates
from pdplan.inputs.schemas import Quantity, QuestionKeys
from pdplan.inputs.spelling import as_keys
from pdplan.search.days.day import LEAST_RATE, Day
from pdplan.units import parse_duration_s

TABLES = (".csv", ".csv.gz", ".txt")
HOURS_OF_A_DAY = 24.0
STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class DayKeys(QuestionKeys):
    """A question file with rates instead of a rate."""

    __pydantic_config__ = STRICT
    rates: str | tuple[Quantity, ...] | None = None
    """A list, or the name of a CSV file beside this one."""
    series: str | None = None
    period: Quantity | None = None
    reserved_prices: dict[str, Quantity] | None = None


@dataclass(frozen=True, kw_only=True)
class AskedDay:
    """A question at the highest rate, the day, and what to tell the user about both."""

    asked: Asked
    day: Day


def read_day(path: str | Path) -> dict[str, Given]:
    """The values of a file: YAML with the keys of a question, or a table of rates alone."""
    if str(path).endswith(TABLES):
        return {"rates": Given(str(path), str(path))}
    return day_values(read_kind(path, "day", "question"))


def day_values(document: Document) -> dict[str, Given]:
    document = as_keys(expect(document, "day", "question"))
    keys = validate(DayKeys, document)
    found = with_paths(given_in(document, {k: v for k, v in asdict(keys).items() if v is not None}), document)
    rates = found.get("rates")
    if rates is not None and isinstance(rates.value, str) and rates.value.endswith(TABLES):
        found["rates"] = Given(str(Path(document.path).parent / rates.value), rates.where)
    return found


def day_from(values: Values, catalog: Catalog) -> AskedDay:
    """The day that values ask for; raises InputError with everything that is wrong with them."""
    findings = Findings()
    for key in ("rate", "concurrency"):
        if key in values:
            findings.say(values[key].where, "a day has rates, one for each period; leave it out")
    rates = _rates(values, findings)
    hours = _hours(values, rates, findings) if rates else ()
    reserved = _reserved(values, catalog, findings)
    # What is wrong with the question is told with the rest.
    peak = max(rates.rates) if rates else 1.0
    own = {"rates", "period", "series", "reserved_prices", "rate", "concurrency"}
    rest = {k: v for k, v in values.items() if k not in own}
    asked = findings.attempt(question_from, {**rest, "rate": Given(max(peak, LEAST_RATE), "rates")}, catalog)
    findings.check()
    assert asked is not None
    assert rates is not None
    used = {*asked.question.prefill_hardware, *asked.question.decode_hardware}
    used |= set(asked.question.colocated_hardware)
    notes = tuple(
        f"the reserved price of '{name}' is not used: no role may use it"
        for name in reserved
        if name not in used
    )
    return AskedDay(
        asked=replace(asked, notes=(*asked.notes, *notes)),
        day=Day(hours=hours, rates=rates.rates, reserved_prices=reserved),
    )


# ------------------------------------------------------------------------ inside


def _rates(values: Values, findings: Findings) -> Rates | None:
    if "rates" not in values:
        findings.messages.append(
            "the rates are missing; give a file with one a period, or a list, e.g. --rates 5,8,13,8"
        )
        return None
    given = values["rates"]
    series = str(values["series"].value) if "series" in values else None
    if isinstance(given.value, str) and given.value.endswith(TABLES):
        return findings.attempt(read_rates, given.value, series)
    if series is not None:
        findings.say(values["series"].where, "a list of rates has no series; give a table, or leave it out")
    many = given.value
    if isinstance(many, list | tuple) and all(isinstance(v, str) for v in many):
        many = ",".join(many)
    return findings.attempt(listed_rates, many, given.where)


def _hours(values: Values, rates: Rates, findings: Findings) -> tuple[float, ...]:
    """Lengths of the periods: as given, as the table's times say, or equal parts of a day."""
    count = len(rates.rates)
    if "period" in values:
        given = values["period"]
        period = findings.attempt(parse_duration_s, given.value, name=given.where)
        if rates.hours is not None:
            findings.say(given.where, "the table says itself when each period starts; leave it out")
        return (period / 3600.0,) * count if period else ()
    return rates.hours or (HOURS_OF_A_DAY / count,) * count


def _reserved(values: Values, catalog: Catalog, findings: Findings) -> dict[str, float]:
    if "reserved_prices" not in values:
        return {}
    try:
        return Entries(catalog).prices({"prices": values["reserved_prices"]}, findings)
    except InputError as problem:
        findings.messages += problem.messages
        return {}
