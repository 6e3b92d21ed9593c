"""Lines of one collective: its bytes, the links it crosses, latency plus bytes over bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pdplan.explain.builder import Quantity, number
from pdplan.explain.families import busiest_rank
from pdplan.explain.sources import ENGINE_FORMAT
from pdplan.explain.writer import Writer, used_in
from pdplan.laws.experts import REFERENCE_RANKS, last_rank_wait_s
from pdplan.ops import Message
from pdplan.step import BINDING_TERMS, Term
from pdplan.step.messages import takes_bulk_kernels

_UNITS = {
    "m": "tokens",
    "o": "rows",
    "H": "elements",
    "V": "elements",
    "a": "B",
    "w": "B",
    "tp": "ranks",
    "dp": "ranks",
    "ep": "ranks",
}


def message_lines(writer: Writer, term: Term, message: Message, group: str) -> Quantity:
    """Every line of one collective; returns its time over all layers [s]."""
    sources = writer.sources
    inputs = {k: _quantity(writer, k, number(v)) for k, v in message.inputs.items()}
    size = writer.line(
        group,
        "S",
        "bytes per copy of a token" if message.exchange == "expert_exchange" else "message",
        message.counted,
        used_in(message.counted, inputs),
        "B",
        value=message.message_bytes,
    )
    engine = sources.setting.constants.engine
    used: dict[str, Quantity] = {}
    kernel = number(term.total_s) / message.layers
    behind: list[str] = []
    if message.exchange != "stage_hop" and engine.collective_wait_s:
        behind.append("t_w")
        used["t_w"] = sources.engine("collective_wait_s", "s")
    if message.uneven and engine.rank_wait_s:
        behind.append("t_x")
        used["t_x"] = sources.engine("rank_wait_s", "s")
    waits = ""
    if behind:
        used["r"] = sources.plan(number(message.ranks), "ranks")
        kernel -= number(last_rank_wait_s(sum(used[name].value for name in behind), message.ranks))
        each = f"({'+'.join(behind)})" if len(behind) > 1 else behind[0]
        waits = f"{each}*sqrt(ln(r)/ln({REFERENCE_RANKS:g}))"
    late = message.exchange == "expert_exchange" and engine.exchange_wait_s
    if late:
        used["t_e"] = sources.engine("exchange_wait_s", "s")
        kernel -= engine.exchange_wait_s
    used["t"] = _LAWS[message.exchange](writer, message, group, size, kernel)
    used["L"] = sources.model(message.layers, "times")
    added = ["t", *([waits] if waits else []), *(["t_e"] if late else [])]
    expression = f"L*({'+'.join(added)})" if len(added) > 1 else "L*t"
    return writer.line(
        group,
        "T",
        "time over all layers",
        expression,
        used,
        "s",
        value=term.total_s,
        binding=BINDING_TERMS[int(number(term.binding))],
    )


def _quantity(writer: Writer, name: str, value: float) -> Quantity:
    known = writer.known.get(name)
    if known is not None and known.value == value:
        return known
    if name in ("a", "w"):
        return Quantity(value, "B", ENGINE_FORMAT)
    if name in ("tp", "dp", "ep"):
        return writer.sources.plan(value, "ranks")
    return writer.sources.model(value, _UNITS.get(name, ""))


def _spread(writer: Writer, message: Message, group: str) -> tuple[Quantity, Quantity]:
    """Ranks inside a domain, and domains."""
    ranks = writer.sources.plan(number(message.ranks), "ranks")
    domain = writer.sources.domain()
    if message.spread is not None and number(message.spread) > 1:
        shared = writer.sources.plan(number(message.spread), "GPUs")
        domain = writer.line(
            group,
            "D",
            "ranks in a domain, several GPUs to an expert",
            "max(D_g/s,1)",
            {"D_g": domain, "s": shared},
            "ranks",
        )
    both = {"ranks": ranks, "D": domain}
    inside = writer.line(group, "r", "ranks inside a scale-up domain", "min(ranks,D)", both, "ranks")
    return inside, writer.line(group, "d", "domains", "ceil(ranks/D)", both, "domains")


def _crowding(writer: Writer, group: str, inside: Quantity) -> tuple[str, dict[str, Quantity]]:
    """A factor for links that more than two ranks share, where they do."""
    contention = writer.sources.setting.constants.links.contention
    if not contention or inside.value <= 2:
        return "", {}
    kappa = writer.sources.link(contention, "")
    line = writer.line(
        group, "c", "crowding of shared links", "1+kappa*(r-2)", {"kappa": kappa, "r": inside}, ""
    )
    return "c*", {"c": line}


def _ring(
    writer: Writer, group: str, size: Quantity, inside: Quantity, passes: str, hops: str, local: float
) -> Quantity:
    """Time of a ring inside a domain: `passes` of the message over each link, `hops` latencies."""
    links, sources = writer.sources.setting.constants.links, writer.sources
    crowd, used = _crowding(writer, group, inside)
    share = "lam_l+" if local else ""
    constants = {"lam_l": sources.link(local, "")} if local else {}
    expression = f"{crowd}({share}{passes})*S/(eta_r*U)"
    stream = writer.line(
        group,
        "x",
        "link time at full bandwidth",
        expression,
        used_in(
            expression,
            used
            | constants
            | {
                "r": inside,
                "S": size,
                "eta_r": sources.link(links.scale_up_efficiency, ""),
                "U": sources.scale_up(),
            },
        ),
        "s",
    )
    latencies = {
        "alpha_r": sources.link(links.ring_latency_s, "s"),
        "h": sources.link(links.hop_latency_s, "s"),
        "alpha_b": sources.link(links.ring_bulk_latency_s, "s"),
    }
    expression = f"alpha_r+{hops}*h+min(2*x,alpha_b+x)"
    return writer.line(
        group, "t_r", "ring", expression, used_in(expression, latencies | {"r": inside, "x": stream}), "s"
    )


def _out(writer: Writer) -> dict[str, Quantity]:
    links, sources = writer.sources.setting.constants.links, writer.sources
    return {
        "alpha_o": sources.link(links.scale_out_latency_s, "s"),
        "eta_o": sources.link(links.scale_out_efficiency, ""),
        "O": sources.scale_out(),
    }


def _all_reduce(writer: Writer, message: Message, group: str, size: Quantity, each: float) -> Quantity:
    sources = writer.sources
    links = sources.setting.constants.links
    inside, domains = _spread(writer, message, group)
    found: dict[str, Quantity] = {}
    if inside.value > 1:
        found["t_r"] = _ring(writer, group, size, inside, "2*(r-1)/r", "2*(r-1)", links.local_share)
    if domains.value > 1:
        used = found | {"d": domains, "S": size, "r": inside} | _out(writer)
        local = "t_r+" if found else ""
        expression = f"{local}2*(d-1)*alpha_o+2*(d-1)/d*S/r/(eta_o*O)"
        return writer.line(
            group,
            "t",
            "all-reduce in and across domains",
            expression,
            used_in(expression, used),
            "s",
            value=each,
        )
    crowd, used = _crowding(writer, group, inside)

    def own(value: float, unit: str = "") -> Quantity:
        return sources.link(value, unit, "all_reduce")

    used = used | {
        "alpha": own(links.scale_up_latency_s, "s"),
        "alpha_2": own(links.two_shot_rank_latency_s, "s"),
        "r": inside,
        "S": size,
        "eta_d": own(links.direct_efficiency),
        "U": sources.scale_up(),
    }
    for symbol, name, expression in (
        ("t_1", "one-shot", f"alpha+{crowd}(r-1)*S/(eta_d*U)"),
        ("t_2", "two-shot", f"alpha+alpha_2*r+{crowd}2*(r-1)/r*S/(eta_d*U)"),
    ):
        found[symbol] = writer.line(group, symbol, name, expression, used_in(expression, used), "s")
    if links.switch_reduces and inside.value > 2:
        expression = "alpha_s+(1+1/r)*S/(eta_s*U)"
        used |= {
            "alpha_s": own(links.switch_latency_s, "s"),
            "eta_s": own(links.switch_efficiency),
        }
        found["t_s"] = writer.line(
            group, "t_s", "added up in the switch", expression, used_in(expression, used), "s"
        )
    fastest = f"min({','.join(sorted(found))})"
    return writer.line(group, "t", "all-reduce: the fastest", fastest, found, "s", value=each)


def _all_gather(writer: Writer, message: Message, group: str, size: Quantity, each: float) -> Quantity:
    links = writer.sources.setting.constants.links
    inside, domains = _spread(writer, message, group)
    found: dict[str, Quantity] = {}
    if inside.value > 1:
        found["t_r"] = _ring(writer, group, size, inside, "(r-1)/r", "(r-1)", links.local_share / 2)
    expression = "t_r" if found else "0"
    if domains.value > 1:
        found |= {"d": domains, "S": size, "r": inside} | _out(writer)
        expression += "+(d-1)*(alpha_o+S/d/r/(eta_o*O))"
    return writer.line(
        group, "t", "all-gather or reduce-scatter", expression, used_in(expression, found), "s", value=each
    )


def _stage_hop(writer: Writer, message: Message, group: str, size: Quantity, each: float) -> Quantity:
    links, sources = writer.sources.setting.constants.links, writer.sources
    stages = sources.plan(number(message.ranks), "stages")
    assert message.spread is not None
    fill = {"pp": stages, "D": sources.domain(), "s": sources.plan(number(message.spread), "GPUs")}
    crossing = writer.line(
        group, "x", "hops that leave a scale-up domain", "ceil(pp/max(floor(D/s),1))-1", fill, "hops"
    )
    used = {
        "pp": stages,
        "x": crossing,
        "alpha_r": sources.link(links.ring_latency_s, "s"),
        "S": size,
        "eta_r": sources.link(links.scale_up_efficiency, ""),
        "U": sources.scale_up(),
    }
    expression = "(pp-1-x)*(alpha_r+S/(eta_r*U))"
    if crossing.value > 0:
        used |= _out(writer)
        expression += "+x*(alpha_o+S/(eta_o*O))"
    return writer.line(group, "t", "hops between stages", expression, used, "s", value=each)


def _expert_exchange(writer: Writer, message: Message, group: str, size: Quantity, each: float) -> Quantity:
    """All-to-all of routed tokens, by low-latency or by high-throughput kernels."""
    links, sources = writer.sources.setting.constants.links, writer.sources
    inside, domains = _spread(writer, message, group)
    tp = sources.plan(number(message.inputs["tp"]), "ranks")
    bulk = bool(number(takes_bulk_kernels(message, links)))
    alone = message.deduplicate and not bulk
    tokens = {k: writer.known[k] for k in (("b_d", "q") if alone else ("m",))}
    own = writer.line(
        group,
        "n_t",
        "tokens that a rank sends" + (": its decodes alone take longer than the whole step" if alone else ""),
        f"{'*'.join(tokens)}/tp",
        tokens | {"tp": tp},
        "tokens",
    )
    chosen = sources.model(message.per_token, "experts")
    used = {"n_t": own, "k": chosen, "r": inside, "d": domains, "b": size, "U": sources.scale_up()} | _out(
        writer
    )
    busy = ""
    if message.decode_tokens is not None:
        busy, used["f"] = "*f", _busiest(writer, message, group)
    if bulk:
        start, efficiency = links.bulk_expert_latency_s, links.bulk_expert_efficiency
        used["R"] = sources.plan(number(message.ranks), "ranks")
        up, out = f"n_t*(1-1/r)*X_R*b{busy}/(eta_e*U)", f"n_t*(1-1/d)*X_g*b{busy}/(eta_o*O)"
        used["X_R"] = _distinct_line(writer, group, "R", "ranks", used)
        if domains.value > 1:
            used["g"] = domains
            if message.group_limit is not None:
                limit = sources.model(message.group_limit, "groups")
                used["g"] = writer.line(
                    group,
                    "g",
                    "domains that a token may reach",
                    "min(d,g_max)",
                    {"d": domains, "g_max": limit},
                    "domains",
                )
            used["X_g"] = _distinct_line(writer, group, "g", "domains", used)
    else:
        start, efficiency = links.expert_latency_s, links.expert_efficiency
        up, out = f"n_t*k*(1-1/r)/d*b{busy}/(eta_e*U)", f"n_t*k*(1-1/d)*b{busy}/(eta_o*O)"
    used["eta_e"] = sources.link(efficiency, "")
    found = {
        "alpha_e": sources.link(start, "s"),
        "t_u": writer.line(group, "t_u", "inside the domain", up, used_in(up, used), "s"),
    }
    total = "alpha_e+t_u"
    if domains.value > 1:
        found["t_o"] = writer.line(group, "t_o", "across domains", out, used_in(out, used), "s")
        found["alpha_o"] = used["alpha_o"]
        total = "alpha_e+alpha_o+max(t_u,t_o)"
    return writer.line(group, "t", "exchange", total, used_in(total, found), "s", value=each)


def _busiest(writer: Writer, message: Message, group: str) -> Quantity:
    """What the busiest rank is sent over the mean: of its decodes, as above where no others are."""
    if not message.deduplicate:
        return writer.routed[f"{message.inputs['E']}/{message.per_token} f"]
    sources, known = writer.sources, writer.known
    skew = sources.engine("expert_skew")
    tokens = {k: known[k] for k in ("b_d", "q", "dp")} | {"k": sources.model(message.per_token, "experts")}
    used = {
        "ep": sources.plan(number(message.ranks), "ranks"),
        "A": writer.line(group, "A", "copies of the decodes' tokens", "b_d*q*dp*k", tokens, "rows"),
        "E": sources.model(number(message.inputs["E"]), "experts"),
        "skew": skew,
    }
    slots = writer.routed[f"{message.inputs['E']}/{message.per_token} S"]
    copied = slots.value > used["E"].value and number(message.inputs["R_e"]) > 0
    used |= {"S": slots, "drift": sources.engine("popularity_drift")}
    expression = busiest_rank(skew.value > 0, copied)
    name = "what the busiest rank is sent over the mean, expected: that of the decodes alone"
    return writer.line(group, "f", name, expression, used_in(expression, used), "", value=message.busiest)


def _distinct_line(
    writer: Writer, group: str, places: str, what: str, used: Mapping[str, Quantity]
) -> Quantity:
    """Expected distinct places that a token's experts lie on."""
    expression = f"{places}*(1-(1-1/{places})**k)"
    name = f"distinct {what} that a token goes to, expected"
    return writer.line(group, f"X_{places}", name, expression, used_in(expression, used), what)


_LAWS: Mapping[str, Callable[[Writer, Message, str, Quantity, float], Quantity]] = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "stage_hop": _stage_hop,
    "expert_exchange": _expert_exchange,
}
