"""Result files of benchmark tools: recognised by what is in them, read into `Result`s.

    vllm        vllm bench serve --save-result          JSON, or one object a line
    sglang      sglang.bench_serving --output-file      one JSON object a line
    aiperf      genai-perf and AIPerf exports           JSON, CSV
    guidellm    GuideLLM benchmarks                     JSON, YAML, CSV
    inferencex  InferenceX (InferenceMAX) agg results   JSON: an object or a list

The table of measured runs (docs/measured-runs.md) is read by pdplan.measured.runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pdplan.errors import InputError
from pdplan.documents.file_kinds import mistaken_text
from pdplan.documents.files import decode, parse_yaml, read_bytes
from pdplan.measured.readers import aiperf, guidellm, inferencex, sglang, vllm
from pdplan.measured.readers.result import Result

MAX_BYTES = 512 * 2**20
"""Largest result file: those with a line per request are big."""
TABLE = "table of measured runs"
READ = (
    "vllm bench serve --save-result (JSON), sglang.bench_serving --output-file (JSON lines), genai-perf and "
    "aiperf exports (JSON, CSV), GuideLLM benchmarks (JSON, YAML, CSV), InferenceX agg results (JSON), the "
    "table of docs/measured-runs.md (CSV), and a YAML list of files with their deployments ('runs:')"
)
_OBJECTS = (sglang, vllm, guidellm, inferencex, aiperf)


@dataclass(frozen=True, kw_only=True)
class Content:
    """A file as it was found."""

    path: str
    text: str
    sha256: str


def read_content(path: str | Path) -> Content:
    content = read_bytes(path, MAX_BYTES)
    return Content(
        path=str(path), text=decode(content, str(path)), sha256=hashlib.sha256(content).hexdigest()
    )


def is_table(content: Content) -> bool:
    """Whether it is the CSV of docs/measured-runs.md."""
    head = content.text.partition("\n")[0].split(",")
    return {"id", "model", "hardware"} <= {name.strip().strip('"') for name in head}


def is_listing(content: Content) -> bool:
    """Whether it is a YAML list of result files with their deployments."""
    return not content.text.lstrip().startswith(("{", "[")) and any(
        line.startswith("runs:") for line in content.text.splitlines()
    )


def read_results(content: Content) -> list[Result]:
    """The benchmarks of a file of any tool; InputError where none is recognised."""
    found = list(_results(content))
    if not found and "\ncross_validation:" in content.text:
        raise InputError(
            f"{content.path}: this is a calibration already; give the results that it should be fitted to, "
            "and use it with --calibration"
        )
    if not content.text.strip():
        raise InputError(f"{content.path}: the file is empty; was the benchmark cut off?")
    if not found:
        mistaken = mistaken_text(content.text, content.path, "runs")
        if mistaken:
            raise InputError(f"{content.path}: {mistaken}")
        raise InputError(f"{content.path}: no benchmark result is recognised in it; what is read: {READ}")
    return found


# ------------------------------------------------------------------------ inside


def _results(content: Content) -> Iterator[Result]:
    start = content.text.lstrip()[:1]
    if start in ("{", "["):
        for data, where in _objects(content):
            yield from _of_object(data, where)
        return
    lines = [line for line in content.text.splitlines() if line.strip()]
    for tool in (guidellm, aiperf):
        if tool.claims_csv(lines):
            yield from tool.read_csv(content.text, content.path)
            return
    if lines and content.path.endswith((".yaml", ".yml")):
        data = parse_yaml(content.text, content.path).data
        if guidellm.claims(data):
            yield from guidellm.read(data, content.path)


def _of_object(data: Any, where: str) -> list[Result]:
    if not isinstance(data, Mapping):
        return []
    read: Callable[[Mapping[str, Any], str], list[Result]] | None = next(
        (tool.read for tool in _OBJECTS if tool.claims(data)), None
    )
    return read(data, where) if read else []


def _objects(content: Content) -> Iterator[tuple[Any, str]]:
    """The objects of a JSON text: one, a list of them, or one a line."""
    try:
        whole = json.loads(content.text)
    except (ValueError, RecursionError) as problem:
        if content.text.lstrip().startswith("{") and "\n" in content.text.strip():
            yield from _lines(content)
            return
        raise _no_json(content, problem) from None
    if isinstance(whole, list):
        yield from ((item, f"{content.path}: entry {n}") for n, item in enumerate(whole, 1))
    else:
        yield whole, content.path


def _lines(content: Content) -> Iterator[tuple[Any, str]]:
    for n, line in enumerate(content.text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            yield json.loads(line), f"{content.path}:{n}"
        except (ValueError, RecursionError) as problem:
            raise _no_json(content, problem, n) from None


def _no_json(content: Content, problem: Exception, line: int | None = None) -> InputError:
    if isinstance(problem, json.JSONDecodeError):
        where = f"{content.path}:{line or problem.lineno}:{problem.colno}"
        return InputError(f"{where}: not valid JSON: {problem.msg}; was the file cut off?")
    return InputError(f"{content.path}: nested too deeply, or a number is too long; is this the right file?")
