"""Findings of a file: all at once, in file order, each with its place and how to mend it."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from pdplan.documents.bounds import Ge, Gt, MinLen
from pdplan.documents.files import parse_yaml
from pdplan.documents.validation import validate
from pdplan.errors import CatalogError, InputError

STRICT = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class Fan:
    __pydantic_config__ = STRICT
    kind: Literal["fan"] = "fan"
    blades: int
    speed_hz: float


@dataclass(frozen=True, kw_only=True)
class Pump:
    __pydantic_config__ = STRICT
    kind: Literal["pump"] = "pump"
    flow_l_per_s: Annotated[float, Gt(0)]
    fluid: Literal["water", "glycol"] = "water"


@dataclass(frozen=True, kw_only=True)
class Cooler:
    __pydantic_config__ = STRICT
    name: Annotated[str, MinLen(1)]
    count: Annotated[int, Ge(1)] = 1
    on: bool = True
    weight_kg: float | None = None
    part: Fan | Pump | None = None
    parts: tuple[Fan | Pump, ...] = ()
    limits: dict[Literal["low", "high"], float] | None = None
    threshold: float | Literal["auto"] = "auto"

    def __post_init__(self) -> None:
        if self.limits and self.limits.get("low", 0) > self.limits.get("high", 0):
            raise ValueError("limits.low must not be above limits.high; name.first is fine")


def check(text):
    return validate(Cooler, parse_yaml(textwrap.dedent(text), "c.yaml"))


def messages(text):
    with pytest.raises(InputError) as caught:
        check(text)
    return list(caught.value.messages)


def test_a_good_file_becomes_the_class():
    found = check("""
        name: big
        count: 8.0
        weight_kg: 8
        part: {kind: pump, flow_l_per_s: 1e-1}
        parts: [{kind: fan, blades: 3, speed_hz: 10}, {kind: pump, flow_l_per_s: 2, fluid: glycol}]
        limits: {low: 1, high: 2}
        threshold: 3
        """)
    assert found == Cooler(
        name="big",
        count=8,
        weight_kg=8.0,
        part=Pump(flow_l_per_s=0.1),
        parts=(Fan(blades=3, speed_hz=10.0), Pump(flow_l_per_s=2.0, fluid="glycol")),
        limits={"low": 1.0, "high": 2.0},
        threshold=3.0,
    )
    assert isinstance(found.weight_kg, float)
    assert isinstance(found.count, int)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nam: x", ["c.yaml:1:1: unknown key 'nam'; did you mean 'name'?"]),
        ("count: 3", ["c.yaml:1:1: missing key 'name'"]),
        ("name: 3", ["c.yaml:1:1: 'name' is 3; expected text; put it in quotes"]),
        ("name: ''", ["c.yaml:1:1: 'name' has 0 characters; it must have at least 1"]),
        ("name:", ["c.yaml:1:1: 'name' is empty; expected text"]),
        ("name: x\ncount: '3'",
         ["c.yaml:2:1: 'count' is the text '3'; expected a whole number; remove the quotes"]),
        ("name: x\ncount: 3.5", ["c.yaml:2:1: 'count' is 3.5; expected a whole number"]),
        ("name: x\ncount: true", ["c.yaml:2:1: 'count' is true; expected a whole number"]),
        ("name: x\ncount: 0", ["c.yaml:2:1: 'count' is 0; it must be at least 1"]),
        ("name: x\ncount: 1e400", ["c.yaml:2:1: 'count' is inf; expected a finite number"]),
        ("name: x\nweight_kg: .nan", ["c.yaml:2:1: 'weight_kg' is nan; expected a finite number"]),
        ("name: x\nweight_kg: true", ["c.yaml:2:1: 'weight_kg' is true; expected a number"]),
        (
            "name: x\nweight_kg: 8 kg",
            [
                "c.yaml:2:1: 'weight_kg' is the text '8 kg'; "
                "expected a number without a unit, such as 989e12"
            ],
        ),
        ("name: x\non: yes", ["c.yaml:2:1: 'on' is the text 'yes'; expected true or false; write true"]),
        ("name: x\non: 1", ["c.yaml:2:1: 'on' is 1; expected true or false"]),
        ("name: x\nparts: 3", ["c.yaml:2:1: 'parts' is 3; expected a list"]),
        ("name: x\nparts: [{kind: fan, blades: 1, speed_hz: 1}, 7]",
         ["c.yaml:2:46: 'parts[1]' is 7; expected a mapping of keys to values"]),
        ("name: x\nlimits: [1]", ["c.yaml:2:1: 'limits' is a list; expected a mapping of keys to values"]),
        ("name: x\nlimits: {hgh: 1}",
         ["c.yaml:2:10: unknown key 'hgh'; did you mean 'high'? Expected one of low, high"]),
        ("name: x\nlimits: {low: 3, high: 2}",
         ["c.yaml:1:1: name.first is fine", "c.yaml:2:10: limits.low must not be above limits.high"]),
        ("name: x\nthreshold: auto2",
         ["c.yaml:2:1: 'threshold' is the text 'auto2'; did you mean 'auto'?"]),
        ("name: x\nthreshold: [1]",
         ["c.yaml:2:1: 'threshold' is a list; expected a number or one of 'auto'"]),
    ],
)  # fmt: skip
def test_one_finding(text, expected):
    assert messages(text) == expected


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("{kind: pump, flow_l_per_s: 0}", ["'flow_l_per_s' is 0; it must be more than 0"]),
        ("{kind: pump}", ["missing key 'flow_l_per_s'"]),
        ("{kind: pump, flow_l_per_s: 1, blades: 3}",
         ["unknown key 'blades'; the keys are kind, flow_l_per_s, fluid"]),
        ("{kind: pump, flow_l_per_s: 1, fluid: watr}",
         ["'fluid' is the text 'watr'; did you mean 'water'? Expected one of water, glycol"]),
        ("{kind: pum, flow_l_per_s: 1}",
         ["'kind' is the text 'pum'; did you mean 'pump'? Expected one of fan, pump"]),
        ("{kind: 3}", ["'kind' is 3; expected one of fan, pump"]),
        ("{blades: 3}", ["missing key 'speed_hz'"]),
        ("7", ["'part' is 7; expected a mapping of keys to values"]),
    ],
)  # fmt: skip
def test_a_union_speaks_for_the_member_that_was_meant(part, expected):
    found = messages(f"name: x\npart: {part}")
    assert [m.partition(": ")[2] for m in found] == expected


def test_all_findings_of_a_file_come_at_once_in_its_order():
    found = messages("""\
        nme: x
        parts:
          - kind: fan
            blades: many
            speed_hz: 1
          - kind: pump
            flow: 2
        count: -1
        colour: red
        """)
    places = ("1:1", "4:5", "7:5", "8:1", "9:1")
    assert [m.split(": ", 1)[0] for m in found] == [f"c.yaml:{p}" for p in places]
    # A key that is part of a missing one is taken for it, and told once.
    assert found[2] == "c.yaml:7:5: unknown key 'flow'; did you mean 'flow_l_per_s'?"


def test_the_caller_chooses_the_class_of_error():
    with pytest.raises(CatalogError):
        validate(Cooler, parse_yaml("a: 1", "c.yaml"), CatalogError)


def test_an_input_error_of_the_class_itself_gets_the_file():
    @dataclass(frozen=True)
    class Picky:
        a: int

        def __post_init__(self):
            raise InputError("no", "never")

    with pytest.raises(InputError) as caught:
        validate(Picky, parse_yaml("a: 1", "c.yaml"))
    assert caught.value.messages == ("c.yaml:1:1: no", "c.yaml:1:1: never")


def test_a_mapping_with_numbers_for_keys():
    document = parse_yaml("8: 1\n16: x", "c.yaml")
    with pytest.raises(InputError, match=r"c\.yaml:2:1: '16' is the text 'x'; expected a number"):
        validate(dict[int, float], document)
    assert validate(dict[int, float], parse_yaml("8: 1", "c.yaml")) == {8: 1.0}
