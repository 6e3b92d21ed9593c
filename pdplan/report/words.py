"""Plans, workloads and objectives in words, the same in every report."""

from __future__ import annotations

from collections.abc import Sequence

from pdplan.plan import Metrics, Plan, PoolPlan, Serving, role_of
from pdplan.printing import percentile_name
from pdplan.question import Choices, Goal, Question
from pdplan.units import format_duration, format_money, format_rate
from pdplan.workload import Slo, Workload

ENGINE_TITLES = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM"}
OBJECTIVES = (
    ("TTFT", "ttft_s", "ttft_slo_s", "ttft_mean_s"),
    ("TPOT", "tpot_s", "tpot_slo_s", "tpot_mean_s"),
    ("request latency", "request_latency_s", "request_latency_slo_s", "request_latency_mean_s"),
)
"""Name, field of Slo, field of Metrics at the SLO's percentile, field of the mean."""

GOALS: dict[Goal, str] = {"cost": "cost", "gpus": "number of GPUs", "energy": "power"}


def goal_of(objective: Goal, *metrics: Metrics) -> Goal:
    """What plans are compared by: GPUs, too, where a price is unknown."""
    if objective == "cost" and any(m.usd_per_h != m.usd_per_h for m in metrics):
        return "gpus"
    return objective


def counted(count: float, one: str, many: str = "") -> str:
    """
    >>> counted(1, "worker"), counted(3, "worker"), counted(1200, "GPU")
    ('1 worker', '3 workers', '1,200 GPUs')
    """
    return f"{count:,.0f} {one if count == 1 else many or one + 's'}"


def pool_words(name: str, pool: PoolPlan) -> str:
    return f"{counted(pool.workers, f'{role_of(name)} worker')} ({pool.hardware} {pool.label})"


def plan_words(plan: Plan) -> str:
    """3 prefill workers (h200 tp8) + 2 decode workers (h200 tp8)."""
    return " + ".join(pool_words(name, pool) for name, pool in plan.pools.items())


def short_plan(plan: Plan) -> str:
    """3P 2D for a row of a table: 3 × h200 tp8 → 2 × h200 tp8."""
    roles: dict[str, list[str]] = {}
    for name, pool in plan.pools.items():
        roles.setdefault(role_of(name), []).append(f"{pool.workers} × {pool.hardware} {pool.label}")
    return " → ".join(" + ".join(parts) for parts in roles.values())


def cost_words(metrics: Metrics) -> str:
    """40 GPUs, $143.60/h, $1.95 per million output tokens; without a price the GPUs alone.

    What a plan that cannot do the work would pay per token is no cost: it does not write them.
    """
    words = counted(metrics.gpus, "GPU")
    if metrics.usd_per_h == metrics.usd_per_h:
        words += f", {format_money(metrics.usd_per_h)}/h"
    known = metrics.usd_per_million_output_tokens == metrics.usd_per_million_output_tokens
    if known and not metrics.reason:
        words += f", {format_money(metrics.usd_per_million_output_tokens)} per million output tokens"
    return words


def hourly(metrics: Metrics) -> str:
    """$143.60/h, or that there is no price."""
    return f"{format_money(metrics.usd_per_h)}/h" if metrics.usd_per_h == metrics.usd_per_h else "no price"


def serving_words(serving: Serving) -> str:
    words = f"{serving.model} in {serving.precision}, KV cache in {serving.kv_precision}"
    words += f", {engine_title(serving.engine)}"
    if serving.speculation.drafted:
        words += (
            f", {counted(serving.speculation.drafted, 'token')} drafted a step "
            f"({serving.speculation.acceptance:.0%} accepted)"
        )
    return words + exchange_words(serving)


def exchange_words(asked: Serving | Question) -> str:
    """Comma, 32 redundant experts, two-batch overlap; nothing where experts are exchanged plainly."""
    words = f", {counted(asked.redundant_experts, 'redundant expert')}" if asked.redundant_experts else ""
    return words + (f", {asked.overlap} overlap" if asked.overlap != "none" else "")


def formats_words(plan: Plan) -> str:
    """fp8, KV bf16, 3 drafted, chunks of 2,048."""
    words = f"{plan.precision}, KV {plan.kv_precision}"
    if plan.speculation.drafted:
        words += f", {plan.speculation.drafted} drafted"
    chunks = {p.chunk_tokens for p in plan.pools.values() if p.chunk_tokens is not None}
    return words + "".join(f", chunks of {chunk:,}" for chunk in sorted(chunks))


def choices_words(choices: Choices) -> str:
    """fp8 and fp4, KV cache in bf16 and fp8, 0 and 3 tokens drafted, chunks of 8,192 and the engine's own."""
    words = []
    if len(choices.precisions) > 1:
        words.append(_listed(choices.precisions))
    if len(choices.kv_precisions) > 1:
        words.append(f"KV cache in {_listed(choices.kv_precisions)}")
    if len(choices.speculations) > 1:
        words.append(f"{_listed([str(s.drafted) for s in choices.speculations])} tokens drafted a step")
    if len(choices.chunk_tokens) > 1:
        sizes = sorted(c for c in choices.chunk_tokens if c is not None)
        own = ["the engine's own"] if None in choices.chunk_tokens else []
        words.append(f"chunks of {_listed([*own, *(f'{c:,}' for c in sizes)])} tokens")
    return ", ".join(words)


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def engine_title(engine: str) -> str:
    return ENGINE_TITLES.get(engine, engine)


def workload_words(workload: Workload) -> str:
    """20.0 req/s of 4,096 tokens in and 1,024 out."""
    lengths = f"{workload.isl:,.0f} tokens in and {workload.osl:,.0f} out"
    if workload.rate is not None:
        words = f"{format_rate(workload.rate)} of {lengths}"
    elif workload.concurrency is not None:
        words = f"{workload.concurrency:,.0f} requests in flight of {lengths}"
    else:
        words = f"requests of {lengths}"
    if workload.prefix_reuse:
        words += f", {workload.prefix_reuse:.1%} of the prompt from the prefix cache"
    spread = [
        f"{name} ± {value:.0%}"
        for name, value in (("prompts", workload.isl_cv), ("answers", workload.osl_cv))
        if value
    ]
    if spread:
        words += f", {' and '.join(spread)}"
    if workload.arrival_cv != 1:
        words += f", arrivals with a coefficient of variation of {workload.arrival_cv:g}"
    return words


def slo_words(slo: Slo) -> str:
    """TTFT ≤ 2.00 s and TPOT ≤ 40.0 ms at p90."""
    limits = [
        f"{title} ≤ {format_duration(limit)}"
        for title, field, _, _ in OBJECTIVES
        if (limit := getattr(slo, field)) is not None
    ]
    if not limits:
        return "no objectives"
    sure = "" if slo.confidence is None else f", with {per_cent(slo.confidence)} confidence"
    return f"{' and '.join(limits)} at {percentile_name(slo.percentile)}{sure}"


def per_cent(share: float) -> str:
    """
    >>> per_cent(0.384), per_cent(0.00235), per_cent(float("nan"))
    ('38%', '0.2%', 'n/a')
    """
    if share != share:
        return "n/a"
    return f"{share:.0%}" if abs(share) >= 0.0995 else f"{share:.1%}"
