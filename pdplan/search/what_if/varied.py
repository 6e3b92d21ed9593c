"""The inputs of a question that an analysis may vary: each with its value, and how to give it another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pdplan.catalog.accelerator import Accelerator, SourcedNumber
from pdplan.compose import World, build_setting, default_bandwidth
from pdplan.errors import InputError, nearest, quoted_list
from pdplan.plan import Plan, role_of
from pdplan.question import Question, Recommendation

Problem = tuple[Question, World]

ENGINE_CONSTANTS = (
    ("kernel_time_factor", "kernel times"),
    ("kernel_overhead_share", "kernel starts"),
    ("step_overhead_s", "engine overhead per step"),
    ("sequence_overhead_s", "engine overhead per sequence"),
    ("expert_skew", "skew of the experts"),
    ("request_overhead_s", "request handling"),
)
"""Fields of Engine that an analysis varies: the fitted ones that times are proportional to."""


@dataclass(frozen=True, kw_only=True)
class VariedInput:
    """One input: its value now, and how a question looks with another."""

    key: str
    """rate, isl, price.h200, memory_bandwidth.h200, engine.step_overhead_s, ..."""
    title: str
    value: float
    unit: str
    """Suffix of JSON names: requests_per_s, tokens, s, share, usd_per_h, flop_per_s, bytes, bytes_per_s,
    gpus, factor."""
    harder: int
    """+1: more is harder to serve; -1: less is; 0: it only costs."""
    put: Callable[[Question, World, float], Problem]
    most: float = float("inf")
    """Where the input ends: a share has no more than all."""
    whole: bool = False

    @property
    def in_arrays(self) -> bool:
        """Whether `put` takes many values at once, of a question of which only plans are evaluated."""
        return self.key in ("rate", "isl", "osl")

    def at(self, factor: float) -> float:
        """The value at so many times what it is now, whole where only whole ones exist."""
        value = min(self.value * factor, self.most)
        return max(float(round(value)), 1.0) if self.whole else value


def varied_inputs(question: Question, world: World, plans: Sequence[Plan]) -> tuple[VariedInput, ...]:
    """All inputs that can move an answer; hardware and engine are those of `plans`, the best first."""
    return tuple(
        found
        for found in (
            *_demand(question),
            *_limits(question),
            *_prices(question, world),
            *_hardware(world, plans),
            *_network(world, plans),
            *_engine(world, plans),
        )
        if found.value > 0
    )


def chosen_inputs(found: Recommendation, only: Sequence[str] = ()) -> tuple[VariedInput, ...]:
    """The inputs of an answer, or those of them that are named; InputError for a name that is none."""
    plans = [c.plan for c in (found.best, found.best_other_mode) if c is not None]
    everything = varied_inputs(found.question, found.world, plans)
    known = [varied.key for varied in everything]
    for name in only:
        if name not in known:
            close = nearest(name, known)
            hint = f"; did you mean {quoted_list(close)}?" if close else f" (known: {', '.join(known)})"
            raise InputError(f"unknown input '{name}'{hint}")
    return tuple(varied for varied in everything if not only or varied.key in only)


# ------------------------------------------------------------------------ inside


def _demand(question: Question) -> Iterator[VariedInput]:
    workload = question.workload

    def in_workload(field: str) -> Callable[[Question, World, float], Problem]:
        return lambda q, w, value: (replace(q, workload=replace(q.workload, **{field: value})), w)

    if workload.rate is not None:
        yield VariedInput(
            key="rate",
            title="request rate",
            value=workload.rate,
            unit="requests_per_s",
            harder=1,
            put=in_workload("rate"),
        )
    if workload.rate is None and question.max_gpus is not None:
        yield VariedInput(
            key="max_gpus",
            title="GPUs",
            value=question.max_gpus,
            unit="gpus",
            harder=-1,
            whole=True,
            put=lambda q, w, value: (replace(q, max_gpus=int(value)), w),
        )
    if workload.rate is None and question.max_usd_per_h is not None:
        yield VariedInput(
            key="max_usd_per_h",
            title="dollars per hour",
            value=question.max_usd_per_h,
            unit="usd_per_h",
            harder=-1,
            put=lambda q, w, value: (replace(q, max_usd_per_h=value), w),
        )
    for field, title in (("isl", "prompt length"), ("osl", "answer length")):
        yield VariedInput(
            key=field,
            title=title,
            value=getattr(workload, field),
            unit="tokens",
            harder=1,
            whole=True,
            put=in_workload(field),
        )
    if workload.prefix_reuse:
        yield VariedInput(
            key="prefix_reuse",
            title="prefix reuse",
            value=workload.prefix_reuse,
            unit="share",
            harder=-1,
            most=0.999,
            put=in_workload("prefix_reuse"),
        )
    if question.speculation.drafted:
        yield VariedInput(
            key="acceptance",
            title="acceptance of drafts",
            value=question.speculation.acceptance,
            unit="share",
            harder=-1,
            most=1.0,
            put=lambda q, w, value: (
                replace(q, speculation=replace(q.speculation, acceptance=value)),
                w,
            ),
        )


def _limits(question: Question) -> Iterator[VariedInput]:
    for key, field, title in (
        ("ttft", "ttft_s", "TTFT limit"),
        ("tpot", "tpot_s", "TPOT limit"),
        ("latency", "request_latency_s", "latency limit"),
    ):
        limit = getattr(question.slo, field)
        if limit is not None:
            put: Any = _limit_to(field)
            yield VariedInput(key=key, title=title, value=limit, unit="s", harder=-1, put=put)


def _limit_to(field: str) -> Callable[[Question, World, float], Problem]:
    return lambda q, w, value: (replace(q, slo=replace(q.slo, **{field: value})), w)


def _prices(question: Question, world: World) -> Iterator[VariedInput]:
    """Of every accelerator that may be chosen: a cheaper one may win."""
    if question.objective != "cost" or (question.wants_goodput and question.max_usd_per_h is None):
        return
    names = sorted({*question.prefill_hardware, *question.decode_hardware, *question.colocated_hardware})
    prices = {hw: world.price(hw) for hw in names}
    if any(price != price for price in prices.values()):
        return  # plans are ranked by accelerators
    for hw, price in prices.items():
        yield VariedInput(
            key=f"price.{hw}",
            title=f"{hw} price",
            value=price,
            unit="usd_per_h",
            harder=0,
            put=_price_to(hw, price),
        )


def _price_to(hardware: str, now: float) -> Callable[[Question, World, float], Problem]:
    """Of one price the value; of several lots all of them in proportion."""

    def put(question: Question, world: World, value: float) -> Problem:
        held = world.market.inventory.get(hardware)
        if held is None:
            return question, replace(world, prices={**world.prices, hardware: value})
        lots = tuple(replace(lot, usd_per_h=lot.usd_per_h * value / now) for lot in held)
        inventory = {**world.market.inventory, hardware: lots}
        return question, replace(world, market=replace(world.market, inventory=inventory))

    return put


def _hardware(world: World, plans: Sequence[Plan]) -> Iterator[VariedInput]:
    """Data-sheet numbers of the accelerators that the plans use."""
    pools = [pool for plan in plans for pool in plan.pools.values()]
    for hw in dict.fromkeys(pool.hardware for pool in pools):
        entry = world.accelerator(hw)
        memory = entry.memory
        peak = entry.peak(_dtype(plans[0].precision, entry))  # type: ignore[arg-type]
        widest = max(pool.gpus_per_worker for pool in pools if pool.hardware == hw)
        numbers = [
            ("memory_bandwidth", "memory bandwidth", memory.bandwidth_bytes_per_s.value, "bytes_per_s"),
            ("peak_flops", "FLOP/s", peak, "flop_per_s"),
            ("memory_size", "memory", memory.capacity_bytes.value, "bytes"),
        ]
        if entry.scale_up and widest > 1:
            speed = entry.scale_up.bandwidth_bytes_per_s.value
            numbers.append(("scale_up_bandwidth", "scale-up links", speed, "bytes_per_s"))
        if entry.scale_out and widest > entry.scale_up_domain_size:
            speed = entry.scale_out.bandwidth_bytes_per_s.value
            numbers.append(("scale_out_bandwidth", "scale-out links", speed, "bytes_per_s"))
        for key, title, now, unit in numbers:
            yield VariedInput(
                key=f"{key}.{hw}",
                title=f"{hw} {title}",
                value=now or 0.0,
                unit=unit,
                harder=-1,
                put=_hardware_to(key, hw, now or 1.0),
            )


def _dtype(precision: str, entry: Accelerator) -> str:
    """The arithmetic whose peak is shown: that of the weights where the hardware has it."""
    return precision if precision in entry.peak_flop_per_s else "bf16"


def _hardware_to(key: str, hardware: str, now: float) -> Callable[[Question, World, float], Problem]:
    def put(question: Question, world: World, value: float) -> Problem:
        changed = _with_number(world.accelerator(hardware), key, value / now)
        return question, replace(world, accelerators={**world.accelerators, hardware: changed})

    return put


def _with_number(entry: Accelerator, key: str, factor: float) -> Accelerator:
    """The accelerator with some of its numbers multiplied; what depends on them with them."""

    def times(number: SourcedNumber) -> SourcedNumber:
        return replace(number, value=number.value * factor)

    memory = entry.memory
    if key == "memory_bandwidth":
        return replace(
            entry, memory=replace(memory, bandwidth_bytes_per_s=times(memory.bandwidth_bytes_per_s))
        )
    if key == "memory_size":
        changed = replace(
            memory, capacity_bytes=times(memory.capacity_bytes), usable_bytes=times(memory.usable_bytes)
        )
        return replace(entry, memory=changed)
    if key == "peak_flops":
        return replace(entry, peak_flop_per_s={t: times(n) for t, n in entry.peak_flop_per_s.items()})
    if key == "scale_up_bandwidth":
        assert entry.scale_up is not None
        links = replace(entry.scale_up, bandwidth_bytes_per_s=times(entry.scale_up.bandwidth_bytes_per_s))
        return replace(entry, scale_up=links)
    assert entry.scale_out is not None
    return replace(
        entry,
        scale_out=replace(
            entry.scale_out, bandwidth_bytes_per_s=times(entry.scale_out.bandwidth_bytes_per_s)
        ),
    )


def _network(world: World, plans: Sequence[Plan]) -> Iterator[VariedInput]:
    """Between the pools of the first of the plans that has two; of several kinds of workers the slowest."""
    apart = next((plan for plan in plans if plan.mode == "disaggregated"), None)
    if apart is None:
        return
    senders, receivers = (
        [pool.hardware for name, pool in apart.pools.items() if role_of(name) == role]
        for role in ("prefill", "decode")
    )
    known = [default_bandwidth(world, p, d) for p in senders for d in receivers]
    value = world.network.bandwidth_bytes_per_s or min((speed for speed in known if speed), default=0.0)

    def put(question: Question, world: World, other: float) -> Problem:
        return question, replace(world, varied=replace(world.varied, network=other / value))

    yield VariedInput(
        key="network", title="network between pools", value=value, unit="bytes_per_s", harder=-1, put=put
    )


def _engine(world: World, plans: Sequence[Plan]) -> Iterator[VariedInput]:
    """Fitted constants, as they are on the accelerator that the first plan decodes with."""
    last = list(plans[0].pools.values())[-1]
    setting = build_setting(world, plans[0], last.hardware)
    for field, title in ENGINE_CONSTANTS:
        now = getattr(setting.constants.engine, field)
        if field == "expert_skew" and not setting.stack.has_experts:
            continue
        yield VariedInput(
            key=f"engine.{field}",
            title=title,
            value=now,
            unit="s" if field.endswith("_s") else "factor",
            harder=1,
            put=_engine_to(field, now or 1.0),
        )


def _engine_to(field: str, now: float) -> Callable[[Question, World, float], Problem]:
    def put(question: Question, world: World, value: float) -> Problem:
        others = tuple((name, factor) for name, factor in world.varied.engine if name != field)
        return question, replace(world, varied=replace(world.varied, engine=(*others, (field, value / now))))

    return put
