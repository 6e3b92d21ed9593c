"""What the user sees: latencies against the SLO, rates, cost."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from pdplan.compose import mean_prices_usd_per_h
from pdplan.evaluate import judged, peak_running
from pdplan.explain.builder import Builder, Quantity
from pdplan.explain.case import Case
from pdplan.explain.mixed import mixed_tpot
from pdplan.explain.phases import decode_tpot
from pdplan.explain.sources import OBJECTIVE, PLAN, error_source, power_source, price_source
from pdplan.uncertainty import grounds

Found = dict[str, Quantity]

ANSWER = {
    "ttft_mean_s": "TTFT",
    "ttft_slo_s": "TTFT_p",
    "tpot_mean_s": "tpot",
    "tpot_slo_s": "TPOT_p",
    "request_latency_mean_s": "T_r",
    "request_latency_slo_s": "T_p",
    "gpus": "G",
    "total_tok_per_s_per_gpu": "G_t",
    "output_tok_per_s_per_gpu": "G_o",
    "tok_per_s_per_user": "u",
    "usd_per_h": "c_h",
    "usd_per_million_output_tokens": "c_out",
    "usd_per_million_tokens": "c_all",
    "power_kw": "P_kw",
}
"""Fields of Metrics, and under which name their lines were found."""


def answer(found: Found) -> Found:
    """The lines that give the metrics, by field of Metrics."""
    return {name: found[key] for name, key in ANSWER.items() if key in found}


def write_latency(b: Builder, case: Case, found: Found) -> None:
    """TTFT, TPOT and request latency, mean and at the percentile, against their limits."""
    metrics, slo = case.metrics, case.slo
    b.section(
        "latency",
        case.titled("Latency against the SLO", *case.plan.pools),
        f"Means, and values that {slo.percentile * 100:.4g} % of requests stay below.",
    )
    handling = found["handling"]
    if case.decoding == "decode":
        fixed = {"t_h": handling, "t_x": found["exposed"], "t_f": found["first"]}
        after, names = "t_x+t_f", "request handling, wait, prefill, transfer, hand-over and first decode step"
    else:
        closed = case.workload.concurrency is not None
        fixed = {"t_h": handling, "t_d": found["D"]}
        after = "t_d" if closed else "t_d/2"
        half = "the step under way" if closed else "half a running step"
        names = f"request handling, wait, prefill, {half}"
    ttft = b.line(
        "TTFT",
        f"mean: {names}",
        f"t_h+W+S+{after}",
        {"W": found["wait"], "S": found["S"]} | fixed,
        "s",
        value=metrics.ttft_mean_s,
    )
    if after == "t_d/2":  # at the percentile it is part of the wait
        after = ""
        del fixed["t_d"]
    if (jitter := case.jitter) is not None:
        fixed["jit"] = jitter
        fixed["pct"] = Quantity(slo.percentile, "", OBJECTIVE)
        after = f"{after}+normal_quantile(pct)*jit".lstrip("+")
    ttft_p = b.line(
        "TTFT_p",
        "at the percentile" + ("" if jitter is None else " (the network's jitter adds to the tail)"),
        f"t_h+R+{after}".rstrip("+"),
        {"R": found["late"]} | fixed,
        "s",
        value=metrics.ttft_slo_s,
    )
    tpot_p = found.get("TPOT_p") or _write_tpot_percentile(b, case, found)
    found |= {"TTFT": ttft, "TTFT_p": ttft_p, "TPOT_p": tpot_p}
    for symbol, name, first, each, value in (
        ("T_r", "request latency, mean", ttft, found["tpot"], metrics.request_latency_mean_s),
        ("T_p", "request latency at the percentile", ttft_p, tpot_p, metrics.request_latency_slo_s),
    ):
        used = {"TTFT": first, "TPOT": each, "OSL": case.osl}
        found[symbol] = b.line(symbol, name, "TTFT+TPOT*max(OSL-1,0)", used, "s", value=value)
    write_margins(b, case, (ttft_p, tpot_p, found["T_p"]))


def write_margins(b: Builder, case: Case, reached_at: tuple[Quantity, Quantity, Quantity]) -> None:
    """TTFT, TPOT and request latency at the percentile, as shares of their limits."""
    slo = case.slo
    if slo.confidence is not None:
        reached_at = _write_pessimistic_end(b, case, *reached_at)
    limits = (("TTFT", slo.ttft_s), ("TPOT", slo.tpot_s), ("request latency", slo.request_latency_s))
    for (name, limit), reached in zip(limits, reached_at, strict=True):
        if limit is not None:
            used = {"found": reached, "limit": Quantity(limit, "s", OBJECTIVE)}
            met = "met" if reached.value <= limit else "missed"
            b.line("margin", f"{name}: share of its limit, {met}", "found/limit", used, "")


def _write_pessimistic_end(
    b: Builder, case: Case, ttft: Quantity, tpot: Quantity, whole: Quantity
) -> tuple[Quantity, Quantity, Quantity]:
    """What the limits are held against where a confidence is asked for."""
    slo = case.slo
    assert slo.confidence is not None
    at = f"at {slo.confidence * 100:g} % confidence"
    values = judged(case.metrics, slo)
    factors = {
        name: Quantity(factor, "", error_source(quantity, ground, slo.confidence))
        for name, quantity, factor, ground in (
            ("f_t", "ttft", slo.ttft_factor, grounds(case.plan, slo.calibration)[0]),
            ("f_p", "tpot", slo.tpot_factor, grounds(case.plan, slo.calibration)[1]),
        )
    }
    first = b.line(
        "TTFT_c",
        f"TTFT {at}: measured over predicted is below f_t",
        "f_t*TTFT",
        {"f_t": factors["f_t"], "TTFT": ttft},
        "s",
        value=values["ttft_s"],
    )
    each = b.line(
        "TPOT_c",
        f"TPOT {at}: measured over predicted is below f_p",
        "f_p*TPOT",
        {"f_p": factors["f_p"], "TPOT": tpot},
        "s",
        value=values["tpot_s"],
    )
    latency = b.line(
        "T_c",
        f"request latency {at}",
        "TTFT_c+f_p*(T-TTFT)",
        {"TTFT_c": first, "f_p": factors["f_p"], "T": whole, "TTFT": ttft},
        "s",
        value=values["request_latency_s"],
    )
    return first, each, latency


def _write_tpot_percentile(b: Builder, case: Case, found: Found) -> Quantity:
    name, pool = case.decoding, case.pools[case.decoding]
    percentile = case.slo.percentile
    if case.workload.concurrency is not None or percentile == 0.5:
        b.note(
            "TPOT at the percentile is its mean: "
            + ("a closed loop holds its batch." if percentile != 0.5 else "the percentile is the median.")
        )
        return found["tpot"]
    z = b.line(
        "z",
        "standard normal quantile",
        "normal_quantile(pct)",
        {"pct": Quantity(percentile, "", OBJECTIVE)},
        "",
    )
    assert math.isclose(z.value, NormalDist().inv_cdf(percentile))
    limit = Quantity(case.metrics.max_batch[name], "sequences", PLAN)
    peak = b.line(
        "N_p",
        "running sequences at the percentile (Poisson, spread over the workers)",
        "min((N*w+z*sqrt(N*w))/w,B)",
        {"N": found["N"], "w": case.workers(name), "z": z, "B": limit},
        "sequences",
        value=peak_running(pool, np.asarray([found["N"].value]), z.value),
    )
    return _tpot_at(b, case, peak, "step at the percentile")


def _tpot_at(b: Builder, case: Case, running: Quantity, what: str) -> Quantity:
    if case.decoding == "decode":
        return decode_tpot(b, case, running, what, detail=False)
    return mixed_tpot(b, case, running, what, detail=False)["tpot"]


def write_rates(b: Builder, case: Case, found: Found) -> None:
    """What each pool can do, how busy it is, and what comes out."""
    open_rates(b)
    if case.decoding == "decode":
        write_prefill_busy(b, case, found)
        write_decode_busy(b, case, found)
        write_network_busy(b, case, found)
    else:
        write_colocated_busy(b, case, found)
    write_throughput(b, case, found)


def open_rates(b: Builder) -> None:
    b.section(
        "rates",
        "Rates",
        "What each pool can do at most, how much of that the load takes, and tokens per GPU.",
    )


def write_prefill_busy(b: Builder, case: Case, found: Found) -> None:
    """What the prefill pool can do, and how much of that is asked."""
    used = {"c": found["servers"], "b_p": found["prompts"], "S": found.get("S_q", found["S"])}
    most = b.line("X_p", f"requests that {_pool(case, 'prefill')} can do", "c*b_p/S", used, "requests/s")
    _write_busy(b, case, "prefill", case.arrivals("prefill"), most)


def write_decode_busy(b: Builder, case: Case, found: Found) -> None:
    _write_busy(b, case, "decode", case.arrivals("decode"), _write_slots(b, case))


def write_network_busy(b: Builder, case: Case, found: Found) -> None:
    used = {"c": found["lanes"], "t_w": found["wire"]}
    most = b.line("X_n", f"requests that {_pool(case, 'network')} can do", "c/t_w", used, "requests/s")
    _write_busy(b, case, "network", found["sent"], most)


def write_colocated_busy(b: Builder, case: Case, found: Found) -> None:
    used = {"lam": case.arrivals("colocated"), "X_d": _write_slots(b, case)}
    used |= {"a": found["offered"], "c": found["servers"]}
    closed = case.workload.concurrency is not None  # takes what there is
    b.line(
        "rho",
        f"utilisation{_of(case, 'colocated')}: of slots or of prefill servers",
        "max(min(lam/X_d,1),a/c)" if closed else "max(lam/X_d,a/c)",
        used,
        "",
        value=case.metrics.utilisation["colocated"],
    )


def _write_slots(b: Builder, case: Case) -> Quantity:
    """What decoding can do with all slots taken."""
    name = case.decoding
    limit = Quantity(case.metrics.max_batch[name], "sequences", PLAN)
    full = _tpot_at(b, case, limit, "step at the largest batch")
    return b.line(
        "X_d",
        f"requests that decoding can do{_of(case, name, ' on ')}",
        "workers*B/(OSL*TPOT)",
        {"workers": case.workers(name), "B": limit, "OSL": case.osl, "TPOT": full},
        "requests/s",
    )


def _write_busy(b: Builder, case: Case, pool: str, asked: Quantity, most: Quantity) -> None:
    b.line(
        "rho",
        f"utilisation, {case.labels.get(pool, pool)}",
        "lam/X",
        {"lam": asked, "X": most},
        "",
        value=case.metrics.utilisation[pool],
    )


def _pool(case: Case, name: str) -> str:
    """The prefill pool, the network; in a mix, the kind of worker."""
    return case.labels.get(name, f"the {name}" + ("" if name == "network" else " pool"))


def _of(case: Case, name: str, link: str = " of ") -> str:
    return f"{link}{case.labels[name]}" if name in case.labels else ""


def write_throughput(b: Builder, case: Case, found: Found) -> None:
    """Tokens per GPU and for one user, and the GPUs."""
    metrics = case.metrics
    tokens = {"lam": case.rate, "ISL": case.isl, "OSL": case.osl}
    gpus = {"G": _write_gpus(b, case)}
    found["G_t"] = b.line(
        "G_t",
        "tokens per second and GPU, prompt and answer",
        "lam*(ISL+OSL)/G",
        tokens | gpus,
        "tokens/s",
        value=metrics.total_tok_per_s_per_gpu,
    )
    tokens.pop("ISL")
    found["G_o"] = b.line(
        "G_o",
        "output tokens per second and GPU",
        "lam*OSL/G",
        tokens | gpus,
        "tokens/s",
        value=metrics.output_tok_per_s_per_gpu,
    )
    found["u"] = b.line(
        "u",
        "tokens per second that one user sees",
        "1/TPOT",
        {"TPOT": found["tpot"]},
        "tokens/s",
        value=metrics.tok_per_s_per_user,
    )
    found |= gpus


def _write_gpus(b: Builder, case: Case) -> Quantity:
    used: Found = {}
    for name, pool in case.plan.pools.items():
        tag = _tag(name)
        used[f"N_{tag}"] = Quantity(float(pool.workers), "workers", f"{PLAN}, {name}")
        used[f"g_{tag}"] = Quantity(float(pool.gpus_per_worker), "GPUs", f"{PLAN}, {name}: tp·pp·dp")
    expression = "+".join(f"N_{_tag(name)}*g_{_tag(name)}" for name in case.plan.pools)
    return b.line("G", "GPUs", expression, used, "GPUs", value=case.metrics.gpus)


def write_cost(b: Builder, case: Case, found: Found) -> None:
    """Dollars and watts."""
    metrics = case.metrics
    b.section(
        "cost",
        "Cost and power",
        "GPUs at the catalog's or the question's price; power is what the data sheet rates.",
    )
    pools = case.plan.pools
    gpus = {f"G_{_tag(n)}": Quantity(float(p.gpus), "GPUs", f"{PLAN}, {n}") for n, p in pools.items()}
    mean_prices = mean_prices_usd_per_h(case.world, case.plan)
    prices = {
        f"c_{_tag(n)}": Quantity(mean_prices[p.hardware], "USD/h", price_source(case.world, p.hardware))
        for n, p in pools.items()
    }
    watts = {
        f"P_{_tag(n)}": Quantity(case.world.watts(p.hardware), "W", power_source(case.world, p.hardware))
        for n, p in pools.items()
    }
    tokens = {"lam": case.rate, "ISL": case.isl, "OSL": case.osl}
    answers = {k: tokens[k] for k in ("lam", "OSL")}
    if all(math.isfinite(q.value) for q in prices.values()):
        hourly = found["c_h"] = b.line(
            "c", "dollars per hour", _each("G_{}*c_{}", case), gpus | prices, "USD/h", value=metrics.usd_per_h
        )
        found["c_out"] = b.line(
            "c_out",
            "dollars per million output tokens",
            "c/3600/(lam*OSL)*1000000",
            {"c": hourly} | answers,
            "USD",
            value=metrics.usd_per_million_output_tokens,
        )
        found["c_all"] = b.line(
            "c_all",
            "dollars per million tokens, prompt and answer",
            "c/3600/(lam*(ISL+OSL))*1000000",
            {"c": hourly} | tokens,
            "USD",
            value=metrics.usd_per_million_tokens,
        )
    else:
        for n, p in pools.items():
            if not math.isfinite(case.world.price(p.hardware)):
                b.note(f"{n}: {price_source(case.world, p.hardware)}")
    if all(math.isfinite(q.value) for q in watts.values()):
        power = found["P_kw"] = b.line(
            "P", "power", f"({_each('G_{}*P_{}', case)})/1000", gpus | watts, "kW", value=metrics.power_kw
        )
        b.line(
            "e", "energy per million output tokens", "P/3600/(lam*OSL)*1000000", {"P": power} | answers, "kWh"
        )


def _each(pattern: str, case: Case) -> str:
    return "+".join(pattern.format(_tag(name), _tag(name)) for name in case.plan.pools)


def _tag(name: str) -> str:
    """What a pool's symbols end in: p for prefill, d2 for the second kind of decode worker."""
    role, _, number = name.partition(" ")
    return role[0] + number
