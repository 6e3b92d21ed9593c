"""`pdplan explain`."""

from typing import TYPE_CHECKING, Annotated

import typer

from pdplan.cli.options import COMMON, CONCURRENCY, MIX, QUESTION, Flags, takes, with_mix
from pdplan.cli.output import ANSWERED, NO, emit, terminal, write
from pdplan.errors import InputError, nearest, quoted_list

if TYPE_CHECKING:
    from pdplan.inputs import Deployment
    from pdplan.inputs.given import Values


@takes(*QUESTION, *CONCURRENCY, *COMMON)
def explain(
    flags: Flags,
    plan: Annotated[
        str | None,
        typer.Argument(
            metavar="PLAN",
            help="Plan file, the JSON that recommend printed, or a question file; "
            "without one, the flags ask for a plan.",
            show_default=False,
        ),
    ] = None,
    *,
    mix: MIX = False,
    section: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this section; repeatable: question, model, seed, ideal, memory, split, prefill, "
            "decode, mixed, transfer, queueing, latency, mixture, rates, cost.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    brief: Annotated[
        bool, typer.Option("--brief", help="Tables and main lines, without those of each kernel.")
    ] = False,
    ideal: Annotated[
        bool, typer.Option("--ideal", help="Explain with every efficiency 1 and every overhead 0.")
    ] = False,
) -> int:
    """The derivation of a plan's metrics, line by line: formula, numbers, result, source.

    Exit code 1 if the deployment cannot carry the load at all.
    """
    sections = _sections(section or ())
    found = _found(plan, flags, mix)
    if found is None:
        return NO
    from dataclasses import replace

    from pdplan.explain import derive
    from pdplan.report.explanation import explanation_inputs, render_explanation

    world = replace(found.world, ideal=ideal)
    derivation = derive(world, found.plan, found.workload, found.slo)
    chosen = derivation.only(sections) if sections else derivation
    if sections and not chosen.sections:
        there = [s.key for s in derivation.sections]
        raise InputError(f"--section: a {found.plan.mode} plan has none of them; it has {quoted_list(there)}")
    head = explanation_inputs(found.plan, found.workload, found.slo, world, found.catalog_sha256)
    width, colour = terminal(flags.format)
    write(
        render_explanation(
            chosen.brief() if brief else chosen,
            head,
            flags.format,
            width=width,
            colour=colour,
            notes=found.notes,
        )
    )
    return NO if derivation.problem else ANSWERED


def _sections(names: "list[str] | tuple[()]") -> tuple[str, ...]:
    """The keys of sections, in any case; raises InputError for one that there is not."""
    from pdplan.explain.derivation import SECTION_KEYS

    wanted = [part.strip().casefold() for name in names for part in name.split(",")]
    for name in wanted:
        if name not in SECTION_KEYS:
            close = nearest(name, SECTION_KEYS)
            hint = f"; did you mean {quoted_list(close)}?" if close else ""
            raise InputError(f"--section: '{name}' is not known{hint} (one of {', '.join(SECTION_KEYS)})")
    return tuple(wanted)


def _found(path: str | None, flags: Flags, mix: bool) -> "Deployment | None":
    """The plan of a file, or the one that a file or the flags ask for."""
    from pdplan.inputs import read_deployment, read_question
    from pdplan.inputs.questions import is_question_file, merged

    if path is None:
        return _searched(with_mix(flags.given(), mix), flags)
    if is_question_file(path):
        return _searched(merged(read_question(path), with_mix(flags.given(), mix)), flags)
    if mix:
        raise InputError(f"--mix: {path} holds a plan, not a question; leave it out")
    return read_deployment(path, flags.catalog(), flags.given())


def _searched(values: "Values", flags: Flags) -> "Deployment | None":
    """The plan that recommend answers with; None, its report printed, where there is no answer."""
    from pdplan.inputs import question_from
    from pdplan.inputs.deployments import Deployment
    from pdplan.search import recommend

    asked = question_from(values, flags.catalog())
    answer = recommend(asked.question, asked.world)
    if answer.best is None:
        from pdplan.report.recommendation import recommendation_report

        report = recommendation_report(answer, catalog_sha256=asked.catalog_sha256, notes=asked.notes)
        emit(report, flags.format)
        return None
    return Deployment(
        plan=answer.best.plan,
        workload=asked.question.workload.at_rate(answer.best.metrics.requests_per_s),
        slo=asked.question.slo,
        world=asked.world,
        catalog_sha256=asked.catalog_sha256,
        notes=asked.notes,
    )


def register(app: typer.Typer) -> None:
    app.command(short_help="The derivation of a plan, line by line.")(explain)
