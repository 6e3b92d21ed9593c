"""Lines of one kernel: its counts, its two times, and how they share the kernel's time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pdplan.explain.builder import Quantity, number
from pdplan.explain.families import inputs_of
from pdplan.explain.sources import COUNTED
from pdplan.explain.writer import Known, Writer, used_in
from pdplan.laws.kernel import tile_filling
from pdplan.laws.roofline import Roofline
from pdplan.ops import Op
from pdplan.step import BINDING_TERMS, PROMPT_MLA, Term


def op_lines(writer: Writer, term: Term, op: Op, group: str) -> Quantity:
    """Every line of one op; returns its time over all layers [s]."""
    writer = replace(writer, known=dict(writer.known))
    law = writer.sources.setting.constants.roofline(op.family, op.dtype)
    kernel = _Kernel(writer=writer, op=op, law=law, group=group, inputs=inputs_of(writer, op, group))
    parts = {"t_c": kernel.compute_line(), "t_m": kernel.memory_line(), "t_d": kernel.depth_line()}
    each = kernel.time_line(
        {k: q for k, q in parts.items() if q is not None}, number(term.total_s) / op.layers
    )
    return kernel.line(
        "T",
        "time over all layers",
        "L*t",
        {"L": writer.sources.model(op.layers, "layers"), "t": each},
        "s",
        value=term.total_s,
        binding=BINDING_TERMS[int(number(term.binding))],
    )


_COUNTS = {
    "flop": ("F", "arithmetic per layer", "FLOP"),
    "stored_bytes": ("S", "weights or cache moved per layer", "B"),
    "activation_bytes": ("A", "activations per layer", "B"),
    "rows": ("R_q", "rows that fill tiles", "rows"),
    "depth": ("k_d", "inner dimension", "elements"),
    "input_bytes": ("I", "input per layer, 16 bit", "B"),
    "scores": ("N_s", "scores that pass the softmax", "scores"),
}


@dataclass(frozen=True, kw_only=True)
class _Kernel:
    writer: Writer
    op: Op
    law: Roofline
    group: str
    inputs: Known

    def line(
        self, symbol: str, name: str, expression: str, used: Known, unit: str, **more: object
    ) -> Quantity:
        return self.writer.line(self.group, symbol, name, expression, used, unit, **more)

    def constant(self, value: float, unit: str = "") -> Quantity:
        return self.writer.sources.kernel(value, unit, self.op.family, self.op.dtype)

    def count(self, field: str) -> Quantity:
        """A count of the op, with the arithmetic that made it where the op says so."""
        symbol, name, unit = _COUNTS[field]
        value = getattr(self.op, field)
        if field not in self.op.counted:
            return Quantity(number(value), unit, f"{COUNTED}: {name} of {self.op.name}")
        expression = self.op.counted[field]
        return self.line(symbol, name, expression, used_in(expression, self.inputs), unit, value=value)

    def compute_line(self) -> Quantity | None:
        if number(self.op.flop) <= 0:
            return None
        work, used = "F", {"F": self.count("flop")}
        if self.law.score_flop and self.op.scores is not None:
            work = "(F+sigma*N_s)"
            used |= {"sigma": self.constant(self.law.score_flop, "FLOP"), "N_s": self.count("scores")}
        if self.law.row_tile and self.op.rows is not None:
            work, used = f"{work}*phi", used | {"phi": self._filling_line()}
        used |= {
            "eta_c": self.constant(self.law.compute_efficiency),
            "peak": self.writer.sources.peak(self.op.dtype),
        }
        return self.line("t_c", "arithmetic time", f"{work}/(eta_c*peak)", used, "s")

    def _filling_line(self) -> Quantity:
        tile = self.constant(self.law.row_tile, "rows")
        assert self.op.rows is not None
        known = next((self.inputs[k] for k in ("R", "m") if k in self.inputs), None)
        rows = known if known is not None and known.value == number(self.op.rows) else self.count("rows")
        used = {"R": rows, "tile": tile}
        expression = "max(R,tile)/R"
        if self.op.groups is not None:
            groups = Quantity(number(self.op.groups), "", f"{COUNTED}: matrices that fill tiles of their own")
            used["Y"] = self.inputs.get("Y", groups)
            expression = "max(R+Y*tile/2,Y*tile)/R"
        value = tile_filling(self.op.rows, self.op.groups, self.law.row_tile)
        return self.line("phi", "rows computed over rows wanted", expression, used, "", value=value)

    def memory_line(self) -> Quantity | None:
        moved: Known = {}
        if number(self.op.stored_bytes) > 0:
            moved["S"] = self.count("stored_bytes")
        total = list(moved)
        if self.law.activation_traffic and number(self.op.activation_bytes) > 0:
            moved |= {
                "gamma": self.constant(self.law.activation_traffic),
                "A": self.count("activation_bytes"),
            }
            total.append("gamma*A")
        if not total:
            return None
        used = moved | self._bandwidth()
        return self.line("t_m", "memory time", f"({'+'.join(total)})/(eta_m*B)", used, "s")

    def _bandwidth(self) -> Known:
        return {"eta_m": self.constant(self.law.memory_efficiency), "B": self.writer.sources.bandwidth()}

    def depth_line(self) -> Quantity | None:
        if not self.law.depth_s or self.op.depth is None:
            return None
        used = {"k_d": self.count("depth"), "d": self.constant(self.law.depth_s, "s")}
        return self.line("t_d", "walk along the inner dimension", "k_d*d", used, "s")

    def time_line(self, parts: Known, value: float) -> Quantity:
        """Seconds of one layer: start, quantisation of the input, and the rounded roofline."""
        engine, sources = self.writer.sources.setting.constants.engine, self.writer.sources
        start: Known = {}
        if self.law.overhead_s and number(self.op.starts):
            start["t_0"] = self.constant(self.law.overhead_s, "s")
        body: Known = {}
        if self.law.input_traffic and self.op.input_bytes is not None:
            used = {"gamma_in": self.constant(self.law.input_traffic), "I": self.count("input_bytes")}
            body["t_in"] = self.line(
                "t_in", "input quantised", "gamma_in*I/(eta_m*B)", used | self._bandwidth(), "s"
            )
        finite = np.isfinite(self.law.exponent) and self.law.exponent != 2
        power = {"p": self.constant(self.law.exponent)} if finite and len(parts) > 1 else {}
        busy = "+".join([*body, *([_rounded(tuple(parts), self.law.exponent)] if parts else [])])
        terms = list(start)
        if start and engine.kernel_overhead_share != 1:
            start["sigma_0"] = sources.engine("kernel_overhead_share")
            terms = ["sigma_0*t_0"]
        if start and number(self.op.starts) != 1:
            fused = self.op.family == "elementwise" and engine.fused_norms
            what = "; norms fused with all-reduces start none" if fused else ""
            start["n_0"] = Quantity(number(self.op.starts), "", f"{COUNTED}: starts over those of t_0{what}")
            terms = [f"{terms[0]}*n_0"]
        if busy and engine.kernel_time_factor != 1:
            body["kappa"] = sources.engine("kernel_time_factor")
            busy = f"kappa*({busy})"
        if busy and self.op.family == PROMPT_MLA and engine.prompt_mla_factor != 1:
            body["lambda"] = sources.engine("prompt_mla_factor")
            busy = f"lambda*({busy})"
        terms += [busy] if busy else []
        return self.line(
            "t", "time per layer", "+".join(terms) or "0", start | body | parts | power, "s", value=value
        )


def _rounded(parts: tuple[str, ...], exponent: float) -> str:
    """The p-norm of the times of a kernel, as written."""
    if len(parts) < 2:
        return parts[0]
    if np.isinf(exponent):
        return f"max({','.join(parts)})"
    if exponent == 2:
        return f"sqrt({'+'.join(f'{x}**2' for x in parts)})"
    return f"({'+'.join(f'{x}**p' for x in parts)})**(1/p)"
