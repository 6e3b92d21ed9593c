"""Results become runs: what a file does not say of its deployment comes from flags or a listing.

A listing is a YAML file: `runs:` with entries that name a file (or several, * as in a shell) and
any of the facts that the flags give. An entry's facts win over flags, flags over the result file's own.
"""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from pdplan.calibrated import LeftOut, SourceFile
from pdplan.catalog.store import Catalog
from pdplan.documents.files import Document, parse_yaml
from pdplan.documents.validation import validate
from pdplan.errors import InputError
from pdplan.inputs.given import Findings, Values, given_in
from pdplan.inputs.run_of_result import STRICT, FactKeys, run_of
from pdplan.measured.readers import TABLE, Content, is_listing, is_table, read_content, read_results
from pdplan.measured.readers.result import Result
from pdplan.measured.run import Run
from pdplan.measured.runs import parse_runs

SUFFIXES = (".json", ".jsonl", ".csv")
"""Result files in a folder; its YAML files may be anything."""
MOST_FAILED = 0.05
"""Share of requests without an answer beyond which a run's load was not what it says."""


@dataclass(frozen=True, kw_only=True)
class EntryKeys(FactKeys):
    """An entry of a listing."""

    __pydantic_config__ = STRICT
    file: str | tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ListingKeys:
    """A listing of result files."""

    __pydantic_config__ = STRICT
    runs: tuple[EntryKeys, ...]
    schema_version: Literal[1] = 1


@dataclass(frozen=True, kw_only=True)
class OwnRuns:
    """Runs that were read, those that cannot be used, and the files."""

    runs: tuple[Run, ...]
    left_out: tuple[LeftOut, ...]
    sources: tuple[SourceFile, ...]

    def without(self, left_out: Sequence[LeftOut]) -> OwnRuns:
        """The same, less runs that cannot be used after all."""
        names = {entry.run for entry in left_out}
        kept = tuple(run for run in self.runs if run.id not in names)
        return replace(self, runs=kept, left_out=(*self.left_out, *left_out))


def read_own_runs(paths: Sequence[str], facts: Values, catalog: Catalog) -> OwnRuns:
    """All runs of result files, tables and listings; raises InputError with everything that is wrong."""
    findings = Findings()
    runs: list[Run] = []
    left_out: list[LeftOut] = []
    sources: list[SourceFile] = []
    for content, values in _files(paths, facts, findings):
        found = findings.attempt(_of_file, content, values, catalog)
        if found is None:
            continue
        runs += found[1]
        left_out += found[2]
        count = len(found[1])
        sources.append(SourceFile(file=content.path, sha256=content.sha256, format=found[0], runs=count))
    findings.messages = _together(findings.messages) + _same_file(sources)
    findings.check()
    return OwnRuns(runs=tuple(runs), left_out=tuple(left_out), sources=tuple(sources))


def _files(paths: Sequence[str], facts: Values, findings: Findings) -> Iterator[tuple[Content, Values]]:
    for path in _inside(paths, findings):
        content = findings.attempt(read_content, path)
        if content is None:
            continue
        if not is_listing(content):
            yield content, facts
            continue
        document = findings.attempt(parse_yaml, content.text, content.path)
        keys = findings.attempt(validate, ListingKeys, document) if document else None
        if document is None or keys is None:
            continue
        for i, entry in enumerate(keys.runs):
            yield from _listed(document, i, entry, facts, findings)


def _inside(paths: Sequence[str], findings: Findings) -> Iterator[str]:
    """Files as they are; of a folder, the result files in it."""
    for path in paths:
        if not os.path.isdir(path):
            yield path
            continue
        found = sorted(name for name in os.listdir(path) if name.endswith(SUFFIXES))
        if not found:
            findings.messages.append(f"{path}: no file in this folder ends in {', '.join(SUFFIXES)}")
        yield from (os.path.join(path, name) for name in found)


def _listed(
    document: Document, index: int, entry: EntryKeys, facts: Values, findings: Findings
) -> Iterator[tuple[Content, Values]]:
    at = ("runs", index)
    own = given_in(document, {k: v for k, v in asdict(entry).items() if v is not None and k != "file"}, at)
    names = (entry.file,) if isinstance(entry.file, str) else entry.file
    for name in names:
        pattern = os.path.join(os.path.dirname(document.path), name)
        found = sorted(glob.glob(pattern)) if glob.has_magic(name) else [pattern]
        if not found:
            findings.say(document.where((*at, "file")), f"no file is called like '{name}'")
        for path in found:
            content = findings.attempt(read_content, os.path.normpath(path))
            if content is not None:
                yield content, {**facts, **own}


def _together(messages: Sequence[str]) -> list[str]:
    """One line for what is wrong with many results alike.

    >>> _together(["a.json: x does not say the tp; y", "b.json: x does not say the tp; y", "c: z"])
    ['a.json and 1 more: x does not say the tp; y', 'c: z']
    """
    found: dict[str, list[str]] = {}
    for message in messages:
        head, _, tail = message.partition(": ")
        found.setdefault(tail or message, []).append(head)
    lines = []
    for text, all_heads in found.items():
        heads = list(dict.fromkeys(all_heads))  # a flag speaks once for all files
        more = f" and {len(heads) - 1:,} more" if len(heads) > 1 else ""
        lines.append(text if heads[0] == text else f"{heads[0]}{more}: {text}")
    return lines


def _same_file(sources: Sequence[SourceFile]) -> list[str]:
    seen: dict[str, str] = {}
    messages = []
    for source in sources:
        if source.sha256 in seen:
            messages.append(f"{source.file}: the same content as {seen[source.sha256]}; give it once")
        seen.setdefault(source.sha256, source.file)
    return messages


def _of_file(content: Content, facts: Values, catalog: Catalog) -> tuple[str, list[Run], list[LeftOut]]:
    """Format, runs, and runs left out of one file."""
    if is_table(content):
        if facts:
            given = next(iter(facts.values())).where
            raise InputError(f"{content.path}: a table says itself what ran; leave {given} out")
        runs = parse_runs(content.text, content.path, catalog)
        return TABLE, *_usable([(run, "") for run in runs])
    results = read_results(content)
    failed = [LeftOut(run=r.where, reason=reason) for r in results if (reason := _failed(r))]
    findings = Findings()
    made = [findings.attempt(run_of, result, facts, catalog) for result in results if not _failed(result)]
    findings.check()
    runs, left_out = _usable([found for found in made if found is not None])
    return results[0].format, runs, failed + left_out


def _failed(result: Result) -> str:
    """Why a benchmark says nothing of its server's speed; "" where it does."""
    asked = result.completed + (0.0 if math.isnan(result.failed) else result.failed)
    if result.completed == 0 or result.failed > MOST_FAILED * asked:
        return (
            f"{asked - result.completed:,.0f} of {asked:,.0f} requests failed"
            if asked
            else "no request was sent"
        )
    return ""


def _usable(pairs: Sequence[tuple[Run, str]]) -> tuple[list[Run], list[LeftOut]]:
    """Runs that say something, and why others do not."""
    runs, left_out = [], []
    for run, problem in pairs:
        reason = problem or (
            "" if run.counts_for_tpot else "its TPOT is not in (0, 0.3 s): no serving result"
        )
        if reason:
            left_out.append(LeftOut(run=run.id, reason=reason))
        else:
            runs.append(run)
    return runs, left_out
