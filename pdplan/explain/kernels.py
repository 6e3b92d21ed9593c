"""Lines of one kernel: its counts, its two times, and how they share the kernel's time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field, replace

import numpy as np

from pdplan.explain.builder import Builder, Quantity, number
from pdplan.explain.sources import COUNTED, ENGINE_FORMAT, Sources
from pdplan.laws.kernel import tile_filling
from pdplan.laws.roofline import Roofline
from pdplan.ops import Op
from pdplan.step import BINDING_TERMS, Term

Known = MutableMapping[str, Quantity]


@dataclass(frozen=True, kw_only=True)
class Writer:
    """Writes the lines of one step's terms."""

    builder: Builder
    sources: Sources
    known: Known
    """What the step has established so far, by symbol: tokens m, prompts b_p, running sequences b_d …"""
    routed: Known = field(default_factory=dict)
    """Routing lines by model block, so that two matrices of one block share them."""

    def line(self, group: str, symbol: str, name: str, expression: str, inputs: Mapping[str, Quantity], unit: str, **more: object) -> Quantity:  # noqa: E501
        return self.builder.line(symbol, name, expression, inputs, unit, group=group, detail=True, **more)  # type: ignore[arg-type]


def op_lines(writer: Writer, term: Term, op: Op, group: str) -> Quantity:
    """Every line of one op; returns its time over all layers [s]."""
    known = replace(writer, known=dict(writer.known))
    inputs = {k: _quantity(writer.sources, op, k) for k, v in op.inputs.items() if v is not None}
    inputs.update({k: q for k, q in _PREPARE[op.family](known, op, group).items() if k in op.inputs})
    counts = {
        symbol: writer.line(group, symbol, name, op.counted[key], used_in(op.counted[key], inputs), unit, value=getattr(op, key))
        for key, symbol, name, unit in (
            ("flop", "F", "arithmetic per layer", "FLOP"),
            ("stored_bytes", "S", "weights or cache read per layer", "B"),
            ("activation_bytes", "A", "activations per layer", "B"),
        )
        if key in op.counted and _matters(key, op, writer.sources.setting.constants.roofline(op.family, op.dtype))
    }
    each = _time_lines(writer, term, op, group, counts, inputs)
    layers = writer.sources.model(op.layers, "layers")
    return writer.line(
        group, "T", "time over all layers", "L*t", {"L": layers, "t": each}, "s",
        value=term.total_s, binding=BINDING_TERMS[int(number(term.binding))],
    )  # fmt: skip


def _matters(key: str, op: Op, law: Roofline) -> bool:
    if key == "activation_bytes":
        return law.activation_traffic > 0
    return number(getattr(op, key)) > 0


def _time_lines(
    writer: Writer, term: Term, op: Op, group: str, counts: Mapping[str, Quantity], inputs: Mapping[str, Quantity]
) -> Quantity:
    sources = writer.sources
    law = sources.setting.constants.roofline(op.family, op.dtype)

    def constant(value: float, unit: str = "") -> Quantity:
        return sources.kernel(value, unit, op.family, op.dtype)

    parts: dict[str, Quantity] = {}
    if "F" in counts:
        work, used = "F", {"F": counts["F"]}
        scores = getattr(op, "scores", None)
        if law.score_flop and scores is not None:
            work, used = "(F+sigma*N_s)", used | {"sigma": constant(law.score_flop, "FLOP"), "N_s": _counted(scores, "scores")}
        if law.row_tile and op.rows is not None:
            work, used = f"{work}*phi", used | {"phi": _filling(writer, op, law, group, inputs, constant)}
        used |= {"eta_c": constant(law.compute_efficiency), "peak": sources.peak(op.dtype)}
        parts["t_c"] = writer.line(group, "t_c", "arithmetic time", f"{work}/(eta_c*peak)", used, "s")
    moved = {k: counts[k] for k in ("S", "A") if k in counts}
    efficiency = {"eta_m": constant(law.memory_efficiency), "B": sources.bandwidth()}
    if moved:
        total = "+".join("gamma*A" if k == "A" else k for k in moved)
        traffic = {"gamma": constant(law.activation_traffic)} if "A" in moved else {}
        parts["t_m"] = writer.line(
            group, "t_m", "memory time", f"({total})/(eta_m*B)", moved | traffic | efficiency, "s"
        )
    depth = getattr(op, "depth", None)
    if law.depth_s and depth is not None:
        used = {"d": constant(law.depth_s, "s"), "k": _counted(depth, "elements")}
        parts["t_d"] = writer.line(group, "t_d", "walk along the inner dimension", "k*d", used, "s")
    before: dict[str, Quantity] = {}
    incoming = getattr(op, "input_bytes", None)
    if law.input_traffic and incoming is not None:
        used = {"gamma_in": constant(law.input_traffic), "I": _counted(incoming, "B")} | efficiency
        before["t_in"] = writer.line(group, "t_in", "input quantised", "gamma_in*I/(eta_m*B)", used, "s")
    start = {"t_0": constant(law.overhead_s, "s")} if law.overhead_s else {}
    terms = [*start, *before, _rounded(tuple(parts), law.exponent)]
    power = {"p": constant(law.exponent)} if np.isfinite(law.exponent) and law.exponent != 2 else {}
    return writer.line(
        group, "t", "time per layer", "+".join(terms), start | before | parts | power, "s",
        value=number(term.total_s) / op.layers,
    )  # fmt: skip


def _rounded(parts: tuple[str, ...], exponent: float) -> str:
    """The p-norm of the times of a kernel, as written."""
    if len(parts) < 2:
        return parts[0] if parts else "0"
    if np.isinf(exponent):
        return f"max({','.join(parts)})"
    if exponent == 2:
        return f"sqrt({'+'.join(f'{x}**2' for x in parts)})"
    return f"({'+'.join(f'{x}**p' for x in parts)})**(1/p)"


def _filling(
    writer: Writer,
    op: Op,
    law: Roofline,
    group: str,
    inputs: Mapping[str, Quantity],
    constant: Callable[[float, str], Quantity],
) -> Quantity:
    tile = constant(law.row_tile, "rows")
    value = tile_filling(op.rows, op.groups, law.row_tile)  # type: ignore[arg-type]
    if op.groups is None:
        expression, used = "max(m,tile)/m", {"m": inputs["m"], "tile": tile}
    else:
        expression = "max(R+Y*tile/2,Y*tile)/R"
        used = {"R": inputs["R"], "Y": inputs["Y"], "tile": tile}
    return writer.line(group, "phi", "rows computed over rows wanted", expression, used, "", value=value)


def used_in(expression: str, inputs: Mapping[str, Quantity]) -> dict[str, Quantity]:
    """The inputs that an expression names, in its order."""
    names = dict.fromkeys(re.findall(r"[A-Za-z_]\w*", expression))
    return {name: inputs[name] for name in names if name in inputs}


def _counted(value: object, unit: str) -> Quantity:
    return Quantity(number(value), unit, COUNTED)


_UNITS = {
    "m": "tokens", "s": "ranks", "w": "B", "a": "B", "kv": "B", "b": "sequences", "n": "tokens", "p": "tokens",
    "first": "tokens", "last": "tokens", "x": "entries", "P": "pairs", "limit": "entries", "h": "heads",
    "e": "elements", "T": "tokens", "X": "experts", "Y": "experts", "R": "rows", "E": "experts", "ep": "ranks",
    "dp": "ranks", "tp": "ranks", "L": "layers", "f_d": "FLOP", "f_p": "FLOP",
}  # fmt: skip
_FROM_PLAN = {"s", "ep", "dp", "tp"}


def _quantity(sources: Sources, op: Op, name: str) -> Quantity:
    """An input of an op that no line derives."""
    value, unit = number(op.inputs[name]), _UNITS.get(name, "")
    if name == "a":
        return Quantity(value, unit, ENGINE_FORMAT)
    if name == "kv":
        return Quantity(value, unit, f"KV cache kept as {sources.setting.formats.kv}")
    if name == "w" and op.family in ("gemm", "experts"):
        formats = sources.setting.formats
        return Quantity(value, unit, f"weights stored as {formats.precision}: {formats.checkpoint.source}")
    if name in _FROM_PLAN:
        return sources.plan(value, unit)
    if name == "skew":
        return sources.engine("expert_skew")
    return sources.model(value, unit)


# ------------------------------------------------ what a family derives before its counts


def _gemm(writer: Writer, op: Op, group: str) -> Known:
    known, rows = writer.known, number(op.inputs["m"])
    if rows == known["m"].value:
        return {"m": known["m"]}
    if op.name.startswith("LM head"):
        return {"m": known["o"]}
    used = {"m_0": known["m"], "b_p": known["b_p"], "p": known["p"]}
    line = writer.line(
        group, "m", "rows: new tokens and cached ones, expanded again", "m_0+b_p*p", used, "tokens", value=rows
    )
    return {"m": line}


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
            group, "g", "queries that still see everything", "min(max(w-p,0),n)", {"w": reach} | ends, "tokens"
        )
        expression, used = "b_p*(g*p+g*(g+1)/2+(n-g)*w)", used | {"g": growing, "w": reach}
    if number(op.inputs["c"]) != 1:
        expression, used = f"{expression}/c", used | {"c": writer.sources.model(number(op.inputs["c"]), "tokens")}
    return writer.line(group, "P", name, expression, used, "pairs", value=op.inputs.get("P") if op.family != "indexer" else None)


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
    start = writer.line(group, "u", "entries at the first token", f"l_0{over}", used_in(f"l_0{over}", used), "entries")
    end = writer.line(group, "v", "entries at the last token", f"l_1{over}", used_in(f"l_1{over}", used), "entries")
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


def _recurrence(writer: Writer, op: Op, group: str) -> Known:
    known, zero = writer.known, Quantity(0.0, "tokens", "none in this step")
    found: Known = {"u_d": zero, "u_p": zero}
    if "b_d" in known:
        used = {"b_d": known["b_d"], "q": known["q"]}
        found["u_d"] = writer.line(group, "u_d", "tokens of running sequences", "b_d*q", used, "tokens")
    if "b_p" in known:
        used = {"b_p": known["b_p"], "n": known["n"]}
        found["u_p"] = writer.line(group, "u_p", "tokens of prompts", "b_p*n", used, "tokens")
    both = [known[k] for k in ("b_d", "b_p") if k in known]
    found["b"] = both[0]
    if len(both) == 2:
        used = {"b_d": both[0], "b_p": both[1]}
        found["b"] = writer.line(group, "b", "states read and written", "b_d+b_p", used, "sequences")
    return found


def _experts(writer: Writer, op: Op, group: str) -> Known:
    """Routing, written once for the matrices of a block."""
    block = f"{op.inputs['E']}/{op.inputs['k']}"
    if f"{block} R" in writer.routed:
        return {k: writer.routed[f"{block} {k}"] for k in ("R", "Y")}
    given = {k: _quantity(writer.sources, op, k) for k in ("dp", "k", "E", "ep", "skew")}
    experts, chosen, ranks = given["E"], given["k"], given["ep"]

    def line(symbol: str, name: str, expression: str, inputs: Mapping[str, Quantity], unit: str) -> Quantity:
        return writer.line(f"{group}: routing", symbol, name, expression, inputs, unit, value=op.inputs[symbol])

    everyone = line("T", "tokens of all attention ranks", "m*dp", {"m": writer.known["m"], "dp": given["dp"]}, "tokens")
    sent = line("A", "token copies sent to experts", "T*k", {"T": everyone, "k": chosen}, "rows")
    factor = line(
        "f", "load of the busiest rank over the mean (expected maximum, and skew)",
        "min(1+sqrt(2*ln(ep)*ep/A*(1-1/ep))+skew*(1-1/ep),ep)",
        {"ep": ranks, "A": sent, "skew": given["skew"]}, "",
    )  # fmt: skip
    spread = "E*(1-(1-k/E)**T)" if chosen.value < experts.value else "E*min(T,1)"
    touched = line("X", "distinct experts touched, expected", spread, used_in(spread, {"E": experts, "k": chosen, "T": everyone}), "experts")  # noqa: E501
    here = line("Y", "of these on the busiest rank", "min(X/ep*f,E/ep)", {"X": touched, "ep": ranks, "f": factor, "E": experts}, "experts")  # noqa: E501
    rows = line("R", "rows on the busiest rank", "A/ep*f", {"A": sent, "ep": ranks, "f": factor}, "rows")
    writer.routed.update({f"{block} R": rows, f"{block} Y": here})
    return {"R": rows, "Y": here}


def _elementwise(writer: Writer, op: Op, group: str) -> Known:
    return {"m": writer.known["m"]}


_PREPARE: Mapping[str, Callable[[Writer, Op, str], Known]] = {
    "gemm": _gemm,
    "experts": _experts,
    "prefill_attention": _prefill_attention,
    "decode_attention": _decode_attention,
    "indexer": _indexer,
    "recurrence": _recurrence,
    "elementwise": _elementwise,
}
