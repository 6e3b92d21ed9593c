"""Names in tables of runs as publishers write them, in the words that rules and laws know."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pdplan.catalog.store import Catalog
from pdplan.efficiency import engine_file
from pdplan.errors import InputError
from pdplan.measured.readers.result import date_of, engine_in
from pdplan.measured.run import Run

_NO_SPECULATION = ("", "none", "off", "false", "no", "0", "nan", "null")
_MODES = {
    "agg": "colocated",
    "aggregated": "colocated",
    "colocated": "colocated",
    "disagg": "disaggregated",
    "disaggregated": "disaggregated",
}
_PRECISIONS = {
    "nvfp4": "fp4",
    "mxfp4": "fp4",
    "w4a8mxfp4": "fp4",
    "w4a16mxfp4": "fp4",
    "fp8block": "fp8",
    "fp8e4m3": "fp8",
    "float8": "fp8",
    "w8a8fp8": "fp8",
    "w8a8": "int8",
    "w4a16": "int4",
    "awq": "int4",
    "gptq": "int4",
    "int4wo": "int4",
    "w4afp8": "int4",
    "w4a8": "int4",
    "bfloat16": "bf16",
    "float16": "bf16",
    "fp16": "bf16",
    "half": "bf16",
}


def engine_named(text: str) -> str:
    """
    >>> engine_named("dynamo-sglang"), engine_named("TensorRT-LLM"), engine_named("generic")
    ('sglang', 'trtllm', 'generic')
    """
    name = text.strip().casefold()
    return name if name in engine_file()["engines"] else engine_in(name).get("engine", name)


def precision_named(text: str) -> str:
    """
    >>> precision_named("NVFP4"), precision_named("FP8-block"), precision_named("mine")
    ('fp4', 'fp8', 'mine')
    """
    name = text.strip().casefold()
    return _PRECISIONS.get(name.replace("-", "").replace("_", ""), name)


def mode_named(text: str) -> str:
    """
    >>> mode_named("Disagg"), mode_named("both")
    ('disaggregated', 'both')
    """
    return _MODES.get(text.strip().casefold(), text)


def speculation_named(text: str) -> str:
    """
    >>> speculation_named("MTP"), speculation_named("eagle3"), speculation_named("False")
    ('mtp', 'mtp', 'none')
    """
    return "none" if text.strip().casefold() in _NO_SPECULATION else "mtp"


def source_named(text: str) -> str:
    """
    >>> source_named("InferenceMAX"), source_named("mine")
    ('inferencex', 'mine')
    """
    name = text.strip().casefold()
    return "inferencex" if name in ("inferencemax", "inferencex") else name


def date_named(text: str) -> str:
    """An ISO date where the text holds one, or a month; "" for anything else, since rules compare dates as text.

    >>> date_named("2026-04-20T10:00:00Z"), date_named("20260420"), date_named("2026-04")
    ('2026-04-20', '2026-04-20', '2026-04')
    >>> date_named("yesterday")
    ''
    """
    month = re.match(r"[0-9]{4}-(0[1-9]|1[0-2])(?![0-9])", text.strip())
    return date_of(text.strip().replace("/", "-")) or (month.group() if month else "")


class CatalogNames:
    """The names that a catalog itself has for models and accelerators; what it does not know stays as it is."""

    def __init__(self, catalog: Catalog) -> None:
        self.model = functools.cache(lambda name: _own_name(catalog.model, name))
        self.accelerator = functools.cache(lambda name: _own_name(catalog.accelerator, name))

    def of(self, run: Run) -> Run:
        """The run by these names."""
        hardware, prefill = self.accelerator(run.hardware), run.prefill
        if prefill is not None:
            prefill = replace(prefill, hardware=self.accelerator(prefill.hardware))
        decode = replace(run.decode, hardware=hardware)
        return replace(run, model=self.model(run.model), hardware=hardware, decode=decode, prefill=prefill)


def _own_name(find: Callable[[str], Any], name: str) -> str:
    try:
        return str(find(name).name)
    except InputError:
        return name
