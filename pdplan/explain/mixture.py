"""Pools of several kinds of workers: each kind derived as a plan of its own, then the mixture of them.

A request takes one route: a kind of prefill worker and one of decode worker, or one kind of colocated
worker. Sections about a kind of worker stand once for each, those about a route once for each route.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pdplan.compose import build_network, economics, mixed_routes
from pdplan.explain.builder import Builder, Quantity
from pdplan.explain.case import Case, sources_of
from pdplan.explain.mixed import write_mixed
from pdplan.explain.outcome import (
    Found,
    open_rates,
    write_colocated_busy,
    write_decode_busy,
    write_latency,
    write_margins,
    write_network_busy,
    write_prefill_busy,
    write_throughput,
)
from pdplan.explain.phases import write_decode, write_prefill
from pdplan.explain.sources import OBJECTIVE, PLAN
from pdplan.explain.waiting import write_queueing, write_transfer
from pdplan.plan import Disaggregated, Mixed, Part, plan_of
from pdplan.serving.mixture import Mixing, Route, mixing_of
from pdplan.uncertainty import slo_of

PHASES = {"prefill": write_prefill, "decode": write_decode, "colocated": write_mixed}
SAMPLED = "the nearest samples of the distributions"


@dataclass(frozen=True, kw_only=True)
class _Latency:
    """One of the latencies that are mixed."""

    name: str
    """In Metrics, before _mean_s and _slo_s."""
    title: str
    symbol: str
    mean: str
    """Under which names its lines are found: the mean, the percentile."""
    late: str


LATENCIES = (
    _Latency(name="ttft", title="TTFT", symbol="TTFT", mean="TTFT", late="TTFT_p"),
    _Latency(name="tpot", title="time per output token", symbol="TPOT", mean="tpot", late="TPOT_p"),
    _Latency(name="request_latency", title="request latency", symbol="T", mean="T_r", late="T_p"),
)


@dataclass(frozen=True, kw_only=True)
class _Way:
    """A route with its case, and the lines that were found for it."""

    route: Route
    case: Case
    found: Found
    weight: Quantity


def write_mixture(b: Builder, case: Case) -> Found:
    """From the split of the requests to latencies and rates of all of them together.

    InputError at a concurrency: how a closed loop splits its requests is not known.
    """
    plan = case.plan
    assert isinstance(plan, Mixed)
    routes = mixed_routes(case.world, plan, case.workload, case.slo)
    mixing = mixing_of(routes, case.workload, case.slo, economics(case.world, plan.pools))
    arriving, weights = _write_split(b, case, plan, routes)
    ways = [
        _Way(
            route=route,
            case=_route_case(case, plan, route, mixing.each[k].at(0), arriving),
            found={},
            weight=weights[k],
        )
        for k, route in enumerate(routes)
    ]
    _write_ways(b, ways)
    total = _write_mixed_latencies(b, case, ways, mixing)
    _write_rates(b, case, ways, total)
    return total


# ------------------------------------------------------------------------ inside


def _write_split(
    b: Builder, case: Case, plan: Mixed, routes: Sequence[Route]
) -> tuple[dict[str, Quantity], list[Quantity]]:
    """Requests that come to each kind of worker, and the share of the requests on each route."""
    b.section(
        "split",
        "Who serves which requests",
        "The router sends each request to one kind of worker of every pool, at random by their shares: a "
        "Poisson stream that is split at random stays Poisson, so each kind is a pool of its own.",
    )
    shares: Found = {}
    arriving: Found = {}
    for name, part in plan.named_parts.items():
        shares[name] = Quantity(part.share, "", f"{PLAN}: share of {name}")
        arriving[name] = case.rate
        if part.share < 1:
            used = {"lam": case.rate, "s": shares[name]}
            about = f"requests that come to {name} ({part.pool.hardware} {part.pool.label})"
            arriving[name] = b.line("lam_k", about, "lam*s", used, "requests/s")
    weights = []
    for route in routes:
        several = [name for name in route.names.values() if shares[name].value < 1]
        if len(several) < 2:
            weights.append(shares[(several or list(route.names.values()))[0]])
            continue
        used = {f"s_{name[0]}": shares[name] for name in several}
        about = f"share of the requests from {' to '.join(several)}"
        weights.append(b.line("w", about, "*".join(used), used, ""))
    return arriving, weights


def _route_case(case: Case, plan: Mixed, route: Route, metrics: Any, arriving: Found) -> Case:
    """The plan of one route's workers alone, at what comes to them."""
    parts = {role: plan.named_parts[name].pool for role, name in route.names.items()}
    alone = plan_of(plan, **{role: (Part(pool=pool, share=1.0),) for role, pool in parts.items()})
    labels = {role: f"{route.names[role]} ({p.hardware} {p.label})" for role, p in parts.items()}
    network = None
    if isinstance(alone, Disaggregated):
        network = build_network(case.world, alone.prefill.hardware, alone.decode.hardware)
        labels["network"] = f"the network from {' to '.join(route.names.values())}"
    return Case(
        world=case.world,
        plan=alone,
        workload=case.workload,
        slo=slo_of(alone, case.slo),
        metrics=metrics,
        pools=dict(route.served.pools),
        sources={
            role: sources_of(case.world, plan, pool, route.served.pools[role]) for role, pool in parts.items()
        },
        network=network,
        labels=labels,
        arriving={role: arriving[name] for role, name in route.names.items()},
    )


def _write_ways(b: Builder, ways: Sequence[_Way]) -> None:
    """Steps of every kind of worker, transfers of every route, queues, latencies of every route."""
    known: dict[str, Found] = {}
    for role, write in PHASES.items():
        for way in ways:
            name = way.route.names.get(role, "")
            if name and name not in known:
                known[name] = write(b, way.case)
            way.found.update(known.get(name, {}))
    for way in ways:
        if way.case.network is not None:
            way.found.update(write_transfer(b, way.case, way.found["S"]))
    queues: dict[str, Found] = {}
    for way in ways:
        first = next(iter(way.route.names.values()))
        if first not in queues:
            queues[first] = write_queueing(b, way.case, way.found)
        way.found.update(queues[first])
    late: Found = {}
    for way in ways:
        last = list(way.route.names.values())[-1]
        if last in late:  # decode workers of one kind decode alike, wherever prompts come from
            way.found["TPOT_p"] = late[last]
        write_latency(b, way.case, way.found)
        late[last] = way.found["TPOT_p"]


def _write_mixed_latencies(b: Builder, case: Case, ways: Sequence[_Way], mixing: Mixing) -> Found:
    """Means weighed by the shares; percentiles where the shares below add up to them."""
    b.section(
        "mixture",
        "All requests together",
        "Means are those of the routes, weighed. A percentile is where the shares of the routes' requests "
        f"that stay below, weighed, reach it; between two of {len(mixing.probabilities)} samples of each "
        "distribution they rise along a straight line.",
    )
    total: Found = {}
    for latency in LATENCIES:
        weights = {f"w_{k}": way.weight for k, way in enumerate(ways, start=1)}
        means = {f"{latency.symbol}_{k}": way.found[latency.mean] for k, way in enumerate(ways, start=1)}
        total[latency.mean] = b.line(
            latency.symbol,
            f"{latency.title}, mean",
            "+".join(f"{w}*{x}" for w, x in zip(weights, means, strict=True)),
            weights | means,
            "s",
            value=getattr(case.metrics, f"{latency.name}_mean_s"),
        )
        total[latency.late] = _write_percentile(b, case, ways, mixing, latency)
    write_margins(b, case, (total["TTFT_p"], total["TPOT_p"], total["T_p"]))
    return total


def _write_percentile(
    b: Builder, case: Case, ways: Sequence[_Way], mixing: Mixing, latency: _Latency
) -> Quantity:
    symbol, title = f"{latency.symbol}_p", f"{latency.title} at the percentile"
    value = getattr(case.metrics, f"{latency.name}_slo_s")
    crossing = mixing.crossing(latency.name, case.slo.percentile)
    alike = ways[0].found[latency.late]
    if all(way.found[latency.late].value == alike.value for way in ways):
        used = {f"{latency.symbol}_1": alike}
        about = f"{title}, on every route the same"
        return b.line(symbol, about, f"{latency.symbol}_1", used, "s", value=value)
    ends = {"t_1": Quantity(crossing.low, "s", SAMPLED), "t_2": Quantity(crossing.high, "s", SAMPLED)}
    shares: Found = {}
    jump = crossing.low == crossing.high
    where = ("below t_1", "up to t_1") if jump else ("below t_1", "below t_2")
    for k, (below, at) in enumerate(zip((crossing.below_low, crossing.below_high), where, strict=True), 1):
        row: Found = {}
        for i, (way, share) in enumerate(zip(ways, below, strict=True), start=1):
            names = " to ".join(way.route.names.values())
            row[f"w_{i}"] = way.weight
            row[f"p_{i}"] = Quantity(
                float(share),
                "",
                f"share of {names} that is {at}: {way.found[latency.late].source}, turned round",
            )
        terms = "+".join(f"w_{i}*p_{i}" for i in range(1, len(ways) + 1))
        about = f"share of all requests whose {latency.title} is {at}"
        shares[f"F_{k}"] = b.line(f"F_{k}", about, terms, row, "")
    if jump:  # so many requests take exactly that long that no line leads up to it
        return b.line(symbol, title, "t_1", {"t_1": ends["t_1"]}, "s", value=value)
    percentile = {"pct": Quantity(case.slo.percentile, "", OBJECTIVE)}
    expression = "t_1+(pct-F_1)/(F_2-F_1)*(t_2-t_1)"
    return b.line(symbol, title, expression, ends | shares | percentile, "s", value=value)


def _write_rates(b: Builder, case: Case, ways: Sequence[_Way], total: Found) -> None:
    """What every kind of worker can do, and what comes out in all."""
    open_rates(b)
    writers = {"prefill": write_prefill_busy, "decode": write_decode_busy, "colocated": write_colocated_busy}
    seen: set[str] = set()
    for role, write in writers.items():
        for way in ways:
            name = way.route.names.get(role)
            if name is not None and name not in seen:
                seen.add(name)
                write(b, way.case, way.found)
    for way in ways:
        if way.case.network is not None:
            write_network_busy(b, way.case, way.found)
    write_throughput(b, case, total)
