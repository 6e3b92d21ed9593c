"""What each family of kernels derives before its counts: pairs, entries, routed rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from pdplan.explain.builder import Quantity, number
from pdplan.explain.sources import COUNTED
from pdplan.explain.writer import Known, Writer, plain_input, used_in
from pdplan.ops import Op


def _gemm(writer: Writer, op: Op, group: str) -> Known:
    known, rows = writer.known, number(op.inputs["m"])
    if rows == known["m"].value:
        return {"m": known["m"]}
    if op.name.startswith("LM head"):
        return {"m": known["o"]}
    if op.name.endswith("(absorbed)"):
        name, expression = "rows: tokens of running sequences", "b_d*q"
        inputs = {k: known[k] for k in ("b_d", "q")}
    else:
        name, expression = "rows: new tokens and cached ones, expanded again", "b_p*(n+p)"
        inputs = {k: known[k] for k in ("b_p", "n", "p")}
    return {"m": writer.line(group, "m", name, expression, inputs, "tokens", value=rows)}


def _prefill_attention(writer: Writer, op: Op, group: str) -> Known:
    found = {"b": writer.known["b_p"], "n": writer.known["n"], "p": writer.known["p"]}
    return found | {"P": _pairs(writer, op, group, "pairs of query and key")}


def _pairs(writer: Writer, op: Op, group: str, name: str) -> Quantity:
    known = writer.known
    used = {"b_p": known["b_p"], "n": known["n"], "p": known["p"]}
    expression = "b_p*(n*p+n*(n+1)/2)"
    if op.inputs.get("limit") is not None:
        limit = {"w_max": writer.sources.model(number(op.inputs["limit"]), "tokens")}
        ends = {"n": known["n"], "p": known["p"]}
        reach = writer.line(group, "w", "reach of a query", "min(w_max,n+p)", limit | ends, "tokens")
        growing = writer.line(
            group,
            "g",
            "queries that still see everything",
            "min(max(w-p,0),n)",
            {"w": reach} | ends,
            "tokens",
        )
        expression, used = "b_p*(g*p+g*(g+1)/2+(n-g)*w)", used | {"g": growing, "w": reach}
    if number(op.inputs["c"]) != 1:
        expression, used = (
            f"{expression}/c",
            used | {"c": writer.sources.model(number(op.inputs["c"]), "tokens")},
        )
    return writer.line(
        group,
        "P",
        name,
        expression,
        used,
        "pairs",
        value=op.inputs.get("P") if op.family != "indexer" else None,
    )


def _decode_attention(writer: Writer, op: Op, group: str) -> Known:
    known = writer.known
    return {"b": known["b_d"], "q": known["q"], "x": _entries(writer, op, group)}


def _entries(writer: Writer, op: Op, group: str) -> Quantity:
    """Cached entries a query meets, averaged over the answer."""
    known, c = writer.known, number(op.inputs["c"])
    first, last = known["first"], known["last"]
    limit = op.inputs.get("limit")
    over, used = "", {"l_0": first, "l_1": last}
    if c != 1:
        over, used = "/c", used | {"c": writer.sources.model(c, "tokens")}
    name, more = "entries a query reads, mean over the answer", {"value": op.inputs.get("x")}
    if limit is None or last.value / c <= limit:
        return writer.line(group, "x", name, f"(l_0+l_1)/2{over}", used, "entries", **more)
    reach = {"w": writer.sources.model(float(limit), "entries")}
    if first.value / c >= limit:
        return writer.line(group, "x", name, "w", reach, "entries", **more)
    start = writer.line(
        group, "u", "entries at the first token", f"l_0{over}", used_in(f"l_0{over}", used), "entries"
    )
    end = writer.line(
        group, "v", "entries at the last token", f"l_1{over}", used_in(f"l_1{over}", used), "entries"
    )
    expression = "((w**2-u**2)/2+w*(v-w))/(v-u)"
    return writer.line(group, "x", name, expression, reach | {"u": start, "v": end}, "entries", **more)


def _indexer(writer: Writer, op: Op, group: str) -> Known:
    """Scores of prompts and of running sequences together."""
    known, c = writer.known, number(op.inputs["c"])
    pairs: list[Quantity] = []
    read: list[Quantity] = []
    compression = {"c": writer.sources.model(c, "tokens")} if c != 1 else {}
    over = "/c" if compression else ""
    if "b_p" in known:
        pairs.append(_pairs(writer, op, group, "pairs of prompts"))
        used = {"b_p": known["b_p"], "p": known["p"], "n": known["n"]} | compression
        read.append(writer.line(group, "R", "entries of prompts", f"b_p*(p+n){over}", used, "entries"))
    if "b_d" in known:
        entries = _entries(writer, replace(op, inputs={"c": c}), group)
        used = {"b_d": known["b_d"], "q": known["q"], "x": entries}
        pairs.append(writer.line(group, "P", "pairs of running sequences", "b_d*q*x", used, "pairs"))
        used.pop("q")
        read.append(writer.line(group, "R", "entries of running sequences", "b_d*x", used, "entries"))
    if len(pairs) == 1:
        return {"P": pairs[0], "R": read[0]}
    return {
        "P": writer.line(group, "P", "pairs", "P_p+P_d", {"P_p": pairs[0], "P_d": pairs[1]}, "pairs"),
        "R": writer.line(group, "R", "entries", "R_p+R_d", {"R_p": read[0], "R_d": read[1]}, "entries"),
    }


def _prefill_recurrence(writer: Writer, op: Op, group: str) -> Known:
    return {"b": writer.known["b_p"], "n": writer.known["n"]}


def _decode_recurrence(writer: Writer, op: Op, group: str) -> Known:
    return {"b": writer.known["b_d"], "q": writer.known["q"]}


def busiest_rank(skewed: bool, copied: bool) -> str:
    """Load of the busiest of ep ranks over the mean, of A copies to E experts in S places."""
    uneven = "(1/A+skew**2/E)" if skewed else "1/A"
    alone = f"1+sqrt(2*ln(ep)*ep*{uneven}*(1-1/ep))"
    if not copied:
        return f"min({alone},ep)"
    left = "(1/A+(drift*skew)**2/E)" if skewed else "1/A"
    heaviest = "(1+skew*(ln(1+E/(S-E))-1))" if skewed else "1"
    balanced = f"max({heaviest}*ep/E,1)*min(1+sqrt(2*ln(ep)*ep*{left}*(1-1/ep)),ep)"
    return f"min({balanced},{alone},ep)"


def _experts(writer: Writer, op: Op, group: str) -> Known:
    """Routing, written once for the matrices of a block."""
    block = f"{op.inputs['E']}/{op.inputs['k']}"
    if f"{block} R" in writer.routed:
        return {k: writer.routed[f"{block} {k}"] for k in ("R", "Y", "R_in")}
    given = {k: plain_input(writer.sources, op, k) for k in ("dp", "k", "E", "ep", "skew", "drift", "R_e")}
    experts, chosen, ranks = given["E"], given["k"], given["ep"]

    def line(symbol: str, name: str, expression: str, inputs: Mapping[str, Quantity], unit: str) -> Quantity:
        return writer.line(
            f"{group}: routing", symbol, name, expression, inputs, unit, value=op.inputs[symbol]
        )

    everyone = line(
        "T", "tokens of all attention ranks", "m*dp", {"m": writer.known["m"], "dp": given["dp"]}, "tokens"
    )
    sent = line("A", "token copies sent to experts", "T*k", {"T": everyone, "k": chosen}, "rows")
    skew = {"skew": given["skew"]} if given["skew"].value > 0 else {}
    copied = number(op.inputs["S"]) > experts.value
    slots = experts
    if copied:
        name = "places for experts on all ranks; those left over hold copies"
        used = {"E": experts, "R_e": given["R_e"], "ep": ranks}
        slots = line("S", name, "ceil((E+R_e)/ep)*ep", used, "experts")
    expression = busiest_rank(bool(skew), copied and given["R_e"].value > 0)
    used = {"ep": ranks, "A": sent, "E": experts, "S": slots, "drift": given["drift"]} | skew
    factor = line(
        "f", "load of the busiest rank over the mean, expected", expression, used_in(expression, used), ""
    )
    spread = "E*(1-(1-k/E)**T)"
    if chosen.value >= experts.value:
        spread = "E*min(T,1)"
    elif skew:
        spread = "E*(1-(1+T*((1-k/E)**(-skew**2)-1))**(-1/skew**2))"
    used = {"E": experts, "k": chosen, "T": everyone} | skew
    touched = line("X", "distinct experts touched, expected", spread, used_in(spread, used), "experts")
    places = touched
    if copied:
        used = {"X": touched, "S": slots, "E": experts}
        name = "of them and their copies, expected"
        places = writer.line(f"{group}: routing", "X_S", name, "X*S/E", used, "experts")
    expression = "min(X/ep*(1+sqrt(2*ln(ep)*max(1-X/E,0)*ep/X*(1-1/ep))),ceil(E/ep))"
    if copied:
        expression = expression.replace("X", "X_S").replace("E", "S")
    used = used_in(expression, {"X": touched, "X_S": places, "ep": ranks, "E": experts, "S": slots})
    here = line("Y", "distinct experts on the rank that touches most, expected", expression, used, "experts")
    rows = line("R", "rows on the busiest rank", "A/ep*f", {"A": sent, "ep": ranks, "f": factor}, "rows")
    # Without attention-dp every rank passes over all copies to find its own experts'.
    found = {"R": rows, "Y": here, "R_in": rows if given["dp"].value > 1 else sent, "f": factor, "S": slots}
    writer.routed.update({f"{block} {k}": q for k, q in found.items()})
    return found


def _elementwise(writer: Writer, op: Op, group: str) -> Known:
    elements = Quantity(
        number(op.inputs["U"]), "elements", f"{COUNTED}: q, k and v of a token on one rank, all layers"
    )
    return {"m": writer.known["m"], "U": elements}


_BY_FAMILY: Mapping[str, Callable[[Writer, Op, str], Known]] = {
    "gemm": _gemm,
    "experts": _experts,
    "indexer": _indexer,
    "prefill_recurrence": _prefill_recurrence,
    "decode_recurrence": _decode_recurrence,
    "elementwise": _elementwise,
}
_BY_PHASE: Mapping[str, Callable[[Writer, Op, str], Known]] = {
    "prefill": _prefill_attention,
    "decode": _decode_attention,
}
"""Attention cores of every kind: full, latent, sparse."""


def inputs_of(writer: Writer, op: Op, group: str) -> Known:
    """Everything that an op's counts were made of, each with its line or source."""
    found = {k: plain_input(writer.sources, op, k) for k, v in op.inputs.items() if v is not None}
    derive = _BY_FAMILY.get(op.family) or _BY_PHASE[op.family.partition("_")[0]]
    found.update({k: q for k, q in derive(writer, op, group).items() if k in op.inputs})
    return found
