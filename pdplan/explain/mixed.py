"""Decode beside prefill on one worker: TPOT, and what a prompt takes of the steps."""

from __future__ import annotations

import numpy as np

from pdplan.explain.builder import Builder, Quantity
from pdplan.explain.case import Case
from pdplan.explain.phases import (
    Alone,
    HostWork,
    decode_alone,
    prompt_load,
    write_handling,
    write_little,
)
from pdplan.explain.pipeline import StepLines, round_line
from pdplan.explain.sources import PLAN
from pdplan.explain.steps import write_step
from pdplan.explain.writer import Known
from pdplan.serving.pools import MixedStep, mixed_step


def mixed_tpot(b: Builder, case: Case, running: Quantity, what: str, *, detail: bool) -> dict[str, Quantity]:
    """TPOT of a colocated pool at `running` sequences on each worker, prefills beside them."""
    name, pool, sources = "colocated", case.pools["colocated"], case.sources["colocated"]
    mixed = mixed_step(pool, case.workload, np.asarray([running.value]))
    alone = decode_alone(b, case, name, running, mixed.decode, f"{what} without prefill", detail=detail)
    known, plain = alone.load, alone.lines
    beside = bool(sources.setting.constants.engine.mixes_prefill)
    prompts = Quantity(1.0, "prompts", "one prompt is worked on by a server at a time")
    prefill, cut = prompt_load(b, case, name, prompts)
    steps = cut["N_s"]
    if float(np.max(mixed.prompts)) > 1.0:
        prompts = prefill["b_p"] = _prompts_of_a_step(b, case, mixed, running, cut)
    if beside:
        used = {"b_d": known["b_d"], "q": known["q"], "b_p": prompts, "n": prefill["n"]}
        both = known | prefill
        both["m"] = b.line("m", "tokens of a step with a chunk", "b_d*q+b_p*n", used, "tokens")
        used.pop("n")
        both["o"] = b.line("o", "rows of the LM head", "b_d*q+b_p", used, "rows")
        title = f"{what} with a chunk of prompt"
    else:
        both = prefill
        both["m"] = b.line("m", "tokens of a chunk", "b_p*n", {"b_p": prompts, "n": prefill["n"]}, "tokens")
        both["o"] = prompts
        title = f"{what}: chunk of prompt on its own"
    chunked = write_step(b, sources, mixed.prefill, both, title, detail=detail)
    found = _write_prompt(b, case, mixed, (plain, chunked), alone, cut | {"b_p": prompts}, title)
    per_batch = case.micro_batches_per_worker(name)
    used = alone.used | {"N": running, "OSL": case.osl, "servers": per_batch, "t_x": found["t_x"]}
    tpot = b.line(
        "TPOT",
        f"time per output token, {what}: its own steps and the prefills of others",
        f"{alone.per_token}+N/OSL/servers*t_x",
        used,
        "s",
        value=mixed.tpot_s,
    )
    found |= {"tpot": tpot, "t_decode": plain.total, "D": tpot, "t_p": plain.total}
    if detail:
        found |= _write_between(b, case, mixed, alone, tpot)
        found["handling"] = write_handling(
            b, case, name, HostWork(steps, mixed.prefill, found["S"], mixed.handling_s)
        )
    return found


def _prompts_of_a_step(
    b: Builder, case: Case, mixed: MixedStep, running: Quantity, cut: dict[str, Quantity]
) -> Quantity:
    """Where answers are shorter than the batch, more than one prompt starts in each step."""
    used = {"N": running, "OSL": case.osl, "servers": case.micro_batches_per_worker("colocated")}
    return b.line(
        "b_p",
        "prompts that a step holds: as many as answers end, and as fit",
        "min(N/OSL/servers,max(floor(M/n_0),1))",
        used | {"M": cut["M"], "n_0": cut["n_0"]},
        "prompts",
        value=mixed.prompts,
    )


def _write_prompt(
    b: Builder,
    case: Case,
    mixed: MixedStep,
    steps: tuple[StepLines, StepLines],
    alone: Alone,
    cut: dict[str, Quantity],
    title: str,
) -> dict[str, Quantity]:
    """What a prompt adds to the steps of others, its service, and what it takes of its server."""
    plain, chunked = steps
    engine = case.pools["colocated"].setting.constants.engine
    count, beside = {"N_s": cut["N_s"]}, bool(engine.mixes_prefill)
    shared = {"b_p": cut.pop("b_p")} if cut["b_p"].value > 1.0 else {}
    each = "/b_p" if shared else ""
    extra, used = ("N_s*(t_c-t)", {"t_c": chunked.total, "t": plain.total})
    through, slowest = "N_s*t_c", {"t_c": chunked.total}
    stages = chunked.earlier is not None
    if not beside:
        extra, used = "N_s*t_c", {"t_c": chunked.total}
    if stages:
        slowest = {"t_c": chunked.total, "s_c": chunked.slowest(b, title)}
        through = "t_c+(N_s-1)*s_c"
        if beside:
            assert alone.around is not None
            round_c = round_line(b, chunked, alone.around, alone.drafts, title)
            extra, used = "N_s*(r_c-t_r)", {"r_c": round_c, "t_r": alone.used["t_r"]}
        else:
            pp = Quantity(float(case.plan.pools["colocated"].pp), "stages", PLAN)
            extra, used = "N_s*max(t_c,pp*s_c)", slowest | {"pp": pp}
    added = b.line(
        "t_x",
        "what a prompt adds to the steps of its server",
        extra + each,
        count | used | shared,
        "s",
        value=mixed.prefill_extra_s,
    )
    service = b.line(
        "S",
        "service: a prompt, all its chunks",
        through,
        count | slowest,
        "s",
        value=mixed.prefill_service_s,
    )
    found = {"t_x": added, "S": service, "S_q": added, "S_s": service, "x_s": added}
    found |= {"M": cut["M"], "n_0": cut["n_0"]}
    if stages:
        own = count | {"s_c": slowest["s_c"]}
        slot = b.line("S_s", "of which the slowest stage", "N_s*s_c", own, "s", value=mixed.prefill_slot_s)
        found |= {"S_q": slot, "S_s": slot, "x_s": slot}
    if not beside:
        return found
    decodes = plain.total
    if stages:
        decodes = plain.slowest(b, "without prefill")
        found["x_s"] = b.line(
            "x_s",
            "what it adds there",
            "N_s*(s_c-t)" + each,
            count | {"s_c": slowest["s_c"], "t": decodes} | shared,
            "s",
            value=mixed.prefill_slot_extra_s,
        )
    found["S_q"] = b.line(
        "S_q",
        "what a prompt takes of its server: those that wait together share steps",
        "t_x+N_s*t/max(floor(M/n_0),1)",
        {k: cut[k] for k in ("N_s", "M", "n_0")} | {"t_x": found["x_s"], "t": decodes},
        "s",
        value=mixed.prefill_work_s,
    )
    return found


def _write_between(
    b: Builder, case: Case, mixed: MixedStep, alone: Alone, tpot: Quantity
) -> dict[str, Quantity]:
    """From one step of the server to the next, on average and without prefill, where that is not TPOT."""
    if alone.tokens is None and alone.around is None:
        return {}
    used: Known = {"TPOT": tpot}
    expression, ending = "TPOT", ""
    if alone.tokens is not None:
        expression, used["E"] = "E*TPOT", alone.tokens
    stages: Known = {}
    if alone.around is not None:
        # In an open loop a pipeline counts as full: the step under way must not get shorter with the rate.
        pp = Quantity(float(case.plan.pools["colocated"].pp), "stages", PLAN)
        stages = {"n_b": alone.around} if case.workload.concurrency is not None else {"pp": pp}
        ending = "/" + next(iter(stages))
    used |= stages
    plain = alone.used | stages
    plain.pop("E", None)
    return {
        "D": b.line("D", "a step on average", expression + ending, used, "s", value=mixed.mean_s),
        "t_p": b.line(
            "t_p",
            "a step without prefill, drafts included",
            alone.step + ending,
            plain,
            "s",
            value=mixed.plain_s,
        ),
    }


def write_mixed(b: Builder, case: Case) -> dict[str, Quantity]:
    """A colocated worker at its mean batch."""
    b.section(
        "mixed",
        case.titled("Decode beside prefill", "colocated"),
        "One worker serves both phases: a step without prefill, a step with a chunk of a prompt, and what "
        "the prefills of others add to each output token.",
    )
    running = b.given(
        "N", case.metrics.running["colocated"], "sequences", "solved so that Little's law below holds"
    )
    found = mixed_tpot(b, case, running, "step", detail=True)
    write_little(b, case, found["tpot"])
    return found | {
        "N": running,
        "prompts": Quantity(1.0, "prompts", "a server works on one prompt at a time"),
    }
