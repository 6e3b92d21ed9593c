"""`pdplan calibrate`."""

from pathlib import Path
from typing import Annotated

import typer

from pdplan.cli.options import COMMON, LENGTHS, RATE, Flag, Flags, takes
from pdplan.cli.output import ANSWERED, emit, say, working

FACTS = (
    Flag("model", "Model that ran, by catalog name or Hugging Face id.", "NAME"),
    Flag("hardware", "Accelerator that it ran on (the decode pool's).", "NAME"),
    Flag("engine", "vllm, sglang, trtllm, ... or any name.", "NAME"),
    Flag("engine_version", "Kept in reports.", "TEXT"),
    Flag("precision", "Weights. [default: what the model's name says, or the publisher's own]", "NAME"),
    Flag("kv_precision", "KV cache: auto, bf16, fp8. [default: auto]", "NAME"),
    Flag("workers", "Workers of the colocated, or the decode pool. [default: 1]", "N"),
    Flag("tp", "Tensor parallel size of a worker.", "N"),
    Flag("pp", "Pipeline parallel size. [default: 1]", "N"),
    Flag("dp", "Attention-data parallel size. [default: 1]", "N"),
    Flag("ep", "Expert parallel size. [default: 1]", "N"),
    Flag("prefill_hardware", "Accelerator of the prefill pool, where it differs.", "NAME"),
    Flag("prefill_workers", "Workers of the prefill pool: the run was disaggregated.", "N"),
    Flag("prefill_tp", "Tensor parallel size of a prefill worker.", "N"),
    Flag("prefill_pp", "Its pipeline parallel size. [default: 1]", "N"),
    Flag("prefill_dp", "Its attention-data parallel size. [default: 1]", "N"),
    Flag("prefill_ep", "Its expert parallel size. [default: 1]", "N"),
    Flag("mode", "colocated or disaggregated. [default: by the prefill pool]", "MODE"),
    Flag("spec", "Speculative decoding: none or mtp. [default: none]", "NAME"),
    Flag("drafted", "Tokens that it drafts a step.", "N"),
    Flag("concurrency", "Requests in flight, where the file does not say.", "N"),
    Flag(
        "prefix_reuse",
        "Share of prompts that the prefix cache held. [default: as the file says]",
        "SHARE",
    ),
)


@takes(*FACTS, *LENGTHS, *RATE, *COMMON)
def calibrate(
    flags: Flags,
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUNS...",
            help="Result files of vllm bench serve, sglang.bench_serving, genai-perf, aiperf, GuideLLM, "
            "InferenceX; tables of runs in CSV; YAML lists of files with their deployments.",
        ),
    ],
    *,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write the calibration here, in YAML.", show_default=False
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the file if it is there.", show_default=False)
    ] = False,
) -> int:
    """Fit the engine constants to your own runs, and say how much that helps.

    Flags say what the result files do not: which accelerator, how it was laid out.

    \b
    pdplan calibrate results/*.json --hardware h100 --engine vllm --tp 4 -o my-calibration.yaml
    pdplan recommend question.yaml --calibration my-calibration.yaml
    """
    from pdplan.calibration.own_file import calibration_of, used, write_calibration
    from pdplan.calibration.own_fit import (
        cross_validate,
        engines_without_constants,
        fit_own,
        impossible,
    )
    from pdplan.documents.files import refuse_to_overwrite
    from pdplan.efficiency import engine_file
    from pdplan.errors import InputError, nearest
    from pdplan.inputs.own_runs import read_own_runs
    from pdplan.report.calibration import calibration_report

    if output is not None and Path(output).is_file() and not force:
        raise InputError(f"{output}: the file is there already; give --force to replace it")
    if output is not None:
        refuse_to_overwrite(output, runs, "-o")
    catalog = flags.catalog()
    own = read_own_runs(runs, flags.given(), catalog)
    own = own.without(impossible(own.runs, catalog))
    if not own.runs:
        reasons = "; ".join(dict.fromkeys(entry.reason for entry in own.left_out))
        raise InputError(f"none of {len(own.left_out)} runs can be used: {reasons}")
    with working("fitting"):
        fit = fit_own(list(own.runs), catalog)
        checked = cross_validate(fit, list(own.runs), catalog)
    found = calibration_of(fit, checked, own, output or "")
    if output is not None:
        write_calibration(found, replace=force)
        say([f"wrote {output}"])
    notes = []
    for name in engines_without_constants(own.runs):
        near = nearest(name, engine_file()["engines"])
        hint = f"; or is it '{near[0]}'?" if near else ""
        notes.append(f"the engine '{name}' has no constants of its own; the generic ones are its start{hint}")
    emit(calibration_report(found, used(own.runs), catalog.digest(), notes), flags.format)
    return ANSWERED


def register(app: typer.Typer) -> None:
    app.command(short_help="Fit the engine constants to your own runs.")(calibrate)
