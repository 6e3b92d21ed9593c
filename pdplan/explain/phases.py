"""Prefill, decode and mixed steps of a pool: what a step carries, how long it takes, what follows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from pdplan.explain.builder import Builder, Quantity
from pdplan.explain.case import Case
from pdplan.explain.pipeline import StepLines, busy_stages, round_line
from pdplan.explain.sources import PLAN, QUESTION
from pdplan.explain.steps import write_step
from pdplan.explain.writer import Known
from pdplan.laws.speculation import tokens_per_step
from pdplan.serving.pools import (
    decode_step,
    decode_tpot_s,
    draft_setting,
    draft_step,
    first_step_s,
    prefill_service,
)
from pdplan.step import StepTime


def write_prefill(b: Builder, case: Case) -> dict[str, Quantity]:
    """Service of one batch of prompts on a prefill server; returns S and prompts."""
    pool, sources = case.pools["prefill"], case.sources["prefill"]
    service = prefill_service(pool, case.workload)
    b.section(
        "prefill",
        case.titled("Prefill step", "prefill"),
        "One forward step of one prefill server, on its busiest accelerator: time of a layer, then of all.",
    )
    batch = Quantity(
        float(pool.max_batch[0]), "prompts", f"{PLAN}: prompts that a prefill worker takes at once"
    )
    prompts = b.line(
        "b_p",
        "prompts of a server in one batch",
        "max(B/servers,1)",
        {"B": batch, "servers": case.micro_batches_per_worker("prefill")},
        "prompts",
        value=service.prompts,
    )
    known, cut = prompt_load(b, case, "prefill", prompts)
    steps = cut["N_s"]
    known["m"] = b.line("m", "tokens of a step", "b_p*n", {"b_p": prompts, "n": known["n"]}, "tokens")
    known["o"] = prompts
    lines = write_step(b, sources, service.step, known, "prefill step")
    used = {"N_s": steps, "t": lines.total}
    found, expression = {}, "N_s*t"
    if lines.earlier is not None:
        used["t_s"] = lines.slowest(b, "prefill step")
        expression = "t+(N_s-1)*t_s"
        found["S_q"] = b.line(
            "S_q",
            "what a batch takes of its server: the next one follows so much later",
            "N_s*t_s",
            {"N_s": steps, "t_s": used["t_s"]},
            "s",
            value=service.interval_s,
        )
    total = b.line(
        "S", "service: one batch of prompts, all steps", expression, used, "s", value=service.time_s
    )
    handling = write_handling(b, case, "prefill", HostWork(steps, service.step, total, service.handling_s))
    return found | {"S": total, "prompts": prompts, "handling": handling}


class HostWork(NamedTuple):
    """What the host starts for a prompt, beside what its kernels take, and what comes of it."""

    steps: Quantity
    step: StepTime
    service: Quantity
    value: object


def write_handling(b: Builder, case: Case, name: str, host: HostWork) -> Quantity:
    """What the host does for a request before its first token."""
    sources = case.sources[name]
    used = {
        "t_r": sources.engine("request_overhead_s", "s"),
        "t_i": sources.engine("token_overhead_s", "s"),
        "ISL": case.isl,
    }
    expression = "t_r+t_i*ISL"
    launch = sources.engine("operation_launch_s", "s")
    if launch.value:
        count = Quantity(host.step.operations, "operations", "operations of the step above, one by one")
        behind = b.line(
            "t_b",
            "how far the host, which starts them, falls behind the kernels",
            "max(N_s*N_o*t_o-S,0)",
            {"N_s": host.steps, "N_o": count, "t_o": launch, "S": host.service},
            "s",
        )
        expression, used = f"{expression}+t_b", used | {"t_b": behind}
    return b.line(
        "t_h", "request handling, beside the steps of others", expression, used, "s", value=host.value
    )


def prompt_load(b: Builder, case: Case, name: str, prompts: Quantity) -> tuple[Known, dict[str, Quantity]]:
    """Chunks of a prompt: steps, tokens per prompt and step, cached tokens before them."""
    workload = case.workload
    reuse = Quantity(workload.prefix_reuse, "", QUESTION)
    new = b.line(
        "n_0",
        "prompt tokens to compute",
        "max(ISL*(1-reuse),1)",
        {"ISL": case.isl, "reuse": reuse},
        "tokens",
        value=workload.new_tokens,
    )
    limit = case.sources[name].engine("max_step_tokens", "tokens")
    steps = b.line(
        "N_s", "steps (chunks)", "ceil(b_p*n_0/M-1e-9)", {"b_p": prompts, "n_0": new, "M": limit}, "steps"
    )
    chunk = b.line("n", "new tokens of a prompt per step", "n_0/N_s", {"n_0": new, "N_s": steps}, "tokens")
    past = b.line(
        "p",
        "tokens before them, mean over the steps",
        "ISL-n_0+(n_0-n)/2",
        {"ISL": case.isl, "n_0": new, "n": chunk},
        "tokens",
    )
    dp = Quantity(float(case.plan.pools[name].dp), "ranks", PLAN)
    cut = {"N_s": steps, "n_0": new, "M": limit}
    return {"b_p": prompts, "n": chunk, "p": past, "dp": dp}, cut


def answer_load(b: Builder, case: Case, name: str, running: Quantity) -> Known:
    """Running sequences of a server and their context."""
    sequences = b.line(
        "b_d",
        f"running sequences of a {'server' if case.plan.pools[name].pp == 1 else 'micro-batch'}",
        "N/servers",
        {"N": running, "servers": case.micro_batches_per_worker(name)},
        "sequences",
    )
    spread = case.workload.osl_cv
    known = {"ISL": case.isl, "OSL": case.osl}
    if spread:
        known["cv_o"] = Quantity(spread, "", QUESTION)
    last = b.line(
        "l_1",
        "context at the last token" + (" (running answers are longer than the mean)" if spread else ""),
        "ISL+OSL*(1+cv_o**2)" if spread else "ISL+OSL",
        known,
        "tokens",
    )
    drafted = case.plan.speculation.drafted
    queries = Quantity(
        1.0 + drafted, "tokens", f"{PLAN}: one token and {drafted} drafted" if drafted else PLAN
    )
    tokens = b.line("m", "tokens of a step", "b_d*q", {"b_d": sequences, "q": queries}, "tokens")
    dp = Quantity(float(case.plan.pools[name].dp), "ranks", PLAN)
    return {
        "b_d": sequences,
        "q": queries,
        "first": case.isl,
        "last": last,
        "m": tokens,
        "o": tokens,
        "dp": dp,
    }


def decode_tpot(b: Builder, case: Case, running: Quantity, what: str, *, detail: bool) -> Quantity:
    """TPOT of the decode pool at `running` sequences on each worker."""
    pool, batch = case.pools["decode"], np.asarray([running.value])
    step = decode_step(pool, case.workload, batch)
    alone = decode_alone(b, case, "decode", running, step, what, detail=detail)
    return b.line(
        "TPOT",
        f"time per output token, {what}",
        alone.per_token,
        alone.used,
        "s",
        value=decode_tpot_s(pool, case.workload, batch),
    )


@dataclass(frozen=True, kw_only=True)
class Alone:
    """From a step without prefill to the next of the same sequences, as an expression."""

    step: str
    """The step and its drafts, or a round of a pipeline."""
    per_token: str
    used: Known
    load: Known
    """What a step carries: sequences, their contexts, tokens."""
    lines: StepLines
    tokens: Quantity | None
    """Tokens that a step yields, None where it is one."""
    around: Quantity | None = None
    """Micro-batches that go round, where there are stages."""
    drafts: tuple[str, Known] = ("", {})


def decode_alone(
    b: Builder, case: Case, name: str, running: Quantity, step: StepTime, what: str, *, detail: bool
) -> Alone:
    """A step that carries no prompt: (step + drafts) / tokens per step, or a pipeline's round."""
    known = answer_load(b, case, name, running)
    lines = write_step(b, case.sources[name], step, known, what, detail=detail)
    tokens, drafts = _drafts(b, case, name, running, known, what, detail=detail)
    after, used = drafts
    expression, used = f"t{after}", used | {"t": lines.total}
    around = None
    if lines.earlier is not None:
        around = busy_stages(b, case, name, running)
        expression, used = "t_r", {"t_r": round_line(b, lines, around, drafts, what)}
    top = expression
    if tokens is not None:
        used = used | {"E": tokens}
        top = f"({expression})/E" if after and around is None else f"{expression}/E"
    return Alone(
        step=expression,
        per_token=top,
        used=used,
        load=known,
        lines=lines,
        tokens=tokens,
        around=around,
        drafts=drafts,
    )


def _drafts(
    b: Builder, case: Case, name: str, running: Quantity, known: Known, what: str, *, detail: bool
) -> tuple[Quantity | None, tuple[str, Known]]:
    """Tokens that a step yields, and what drafting adds to it: "+k*t_draft"."""
    drafted, acceptance = case.plan.speculation.drafted, case.plan.speculation.acceptance
    if not drafted:
        return None, ("", {})
    pool, sources = case.pools[name], case.sources[name]
    k, a = Quantity(float(drafted), "tokens", PLAN), sources.acceptance()
    expected = "(1-a**(k+1))/(1-a)" if acceptance < 1 else "k+1"
    tokens = b.line(
        "E",
        "tokens that a step yields, expected",
        expected,
        {"a": a, "k": k} if acceptance < 1 else {"k": k},
        "tokens",
    )
    setting, step = draft_setting(pool), draft_step(pool, case.workload, np.asarray([running.value]))
    if setting is None or step is None:
        return tokens, ("", {})
    single = known | {
        "m": known["b_d"],
        "o": known["b_d"],
        "q": Quantity(1.0, "tokens", "a draft writes one token"),
    }
    draft = write_step(
        b, replace(sources, setting=setting), step, single, f"draft for the {what}", detail=detail
    )
    return tokens, ("+k*t_draft", {"k": k, "t_draft": draft.total})


def write_decode(b: Builder, case: Case) -> dict[str, Quantity]:
    """Decode at the mean batch, and Little's law as a check."""
    b.section(
        "decode",
        case.titled("Decode step", "decode"),
        "One forward step of one decode server at its mean number of running sequences, the context "
        "averaged over the answer.",
    )
    running = b.given(
        "N", case.metrics.running["decode"], "sequences", "solved so that Little's law below holds"
    )
    tpot = decode_tpot(b, case, running, "decode step", detail=True)
    write_little(b, case, tpot)
    return {"tpot": tpot, "N": running, "t_decode": tpot, "first": _write_first_step(b, case, tpot, running)}


def _write_first_step(b: Builder, case: Case, tpot: Quantity, running: Quantity) -> Quantity:
    """The first step of an answer, with the steps of others that the hand-over waits for."""
    pool, drafted = case.pools["decode"], case.plan.speculation.drafted
    used = {"TPOT": tpot, "h": case.sources["decode"].engine("handover_steps", "steps")}
    if not used["h"].value:
        return tpot
    passing = "h"
    if drafted:
        tokens = float(tokens_per_step(drafted, case.plan.speculation.acceptance))
        share = case.sources["decode"].engine("drafting_handover_share", "")
        passing, used = "s*h*E", used | {"s": share, "E": Quantity(tokens, "tokens", "as above")}
    if case.workload.concurrency is not None:
        passing, used = f"{passing}*(1-exp(-N))", used | {"N": running}
    return b.line(
        "t_f",
        "hand-over, during which others step, and first decode step",
        f"TPOT*(1+{passing})",
        used,
        "s",
        value=first_step_s(pool, case.workload, running.value, tpot.value),
    )


def write_little(b: Builder, case: Case, tpot: Quantity) -> None:
    """Running sequences = arrivals · time in the system."""
    name = case.decoding
    used = {"lam": case.arrivals(name), "workers": case.workers(name), "OSL": case.osl, "TPOT": tpot}
    expression = "lam/workers*OSL*TPOT"
    if case.workload.concurrency is None:
        limit = Quantity(case.metrics.max_batch[name], "sequences", PLAN)
        expression, used = f"min({expression},B)", used | {"B": limit}
    b.line(
        "N",
        "check, Little's law: running = rate of a worker · time in it",
        expression,
        used,
        "sequences",
        value=case.metrics.running[name],
        note="the batch was solved so that this holds",
    )
