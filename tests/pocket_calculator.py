"""Arithmetic for checking derivations, independent of pdplan: expressions and printed lines."""

from __future__ import annotations

import ast
import math
from statistics import NormalDist

import numpy as np

NODES = tuple(zip(*(x.tolist() for x in np.polynomial.legendre.leggauss(64)), strict=True))


def erlang_c(servers: float, offered: float) -> float:
    """By the recursion of Erlang B, as in any textbook."""
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for k in range(1, int(servers) + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def wait_quantile(
    p: float, waits: float, mean: float, service: float, cv: float, phase: float = 0.0
) -> float:
    """P(wait + phase + service > t) = 1 − p by bisection.

    Service lognormal, 16 equally likely values; what is left of a step uniform, its integral by 64
    Gauss-Legendre nodes.
    """
    if math.isinf(mean):
        return math.inf
    sigma = math.sqrt(math.log1p(cv * cv))
    values = [math.exp(sigma * NormalDist().inv_cdf((i + 0.5) / 16)) for i in range(16)]
    values = [service * v * 16 / sum(values) for v in values]
    rate = max(waits, 1e-12) / max(mean, 1e-300)

    def beyond(t: float) -> float:
        if not phase:
            return 1.0 if t < 0 else waits * math.exp(-t * rate) if t > 0 else waits
        if t < 0:
            return 1.0
        # Where the phase is over t the request is late; else it waits for longer than t − phase.
        end = min(t, phase)
        start = min(max(t - 40 / rate, 0.0), end)  # a wait of 40 means is none
        part = [(start + (end - start) * (x + 1) / 2, (end - start) * w / 2) for x, w in NODES]
        return 1.0 - end / phase + sum(w * waits * math.exp(-(t - x) * rate) for x, w in part) / phase

    def late(t: float) -> float:
        return sum(beyond(t - v) for v in values) / 16

    low, high = 0.0, max(values) * 2 + phase + 100 * mean / max(waits, 1 - p)
    for _ in range(300):
        middle = (low + high) / 2
        low, high = (middle, high) if late(middle) > 1 - p else (low, middle)
    return high


NAMES = {
    "max": max,
    "min": min,
    "ceil": math.ceil,
    "floor": math.floor,
    "sqrt": math.sqrt,
    "ln": math.log,
    "exp": math.exp,
    "erlang_c": erlang_c,
    "normal_quantile": NormalDist().inv_cdf,
    "wait_quantile": wait_quantile,
}
ALLOWED = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.USub,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.Div,
    ast.Pow,
)


def value_of(expression: str, inputs: dict[str, float]) -> float:
    tree = ast.parse(expression, mode="eval")
    assert all(isinstance(node, ALLOWED) for node in ast.walk(tree)), expression
    return float(eval(compile(tree, expression, "eval"), {"__builtins__": {}, **NAMES}, inputs))


UNITS = {
    "ns": 1e-9,
    "µs": 1e-6,
    "ms": 1e-3,
    "kB": 1e3,
    "MB": 1e6,
    "GB": 1e9,
    "TB": 1e12,
    "PB": 1e15,
    "kFLOP": 1e3,
    "MFLOP": 1e6,
    "GFLOP": 1e9,
    "TFLOP": 1e12,
    "PFLOP": 1e15,
    "kB/s": 1e3,
    "MB/s": 1e6,
    "GB/s": 1e9,
    "TB/s": 1e12,
}


def calculator(printed: str) -> float:
    """What a pocket calculator makes of the printed numbers."""
    plain = printed.replace("·", "*").replace("−", "-").replace("^", "**")
    return value_of(plain, {})
