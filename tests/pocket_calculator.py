"""Arithmetic for checking derivations, independent of pdplan: expressions and printed lines."""

from __future__ import annotations

import ast
import math
from statistics import NormalDist


def erlang_c(servers: float, offered: float) -> float:
    """By the recursion of Erlang B, as in any textbook."""
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for k in range(1, int(servers) + 1):
        blocked = offered * blocked / (k + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def wait_quantile(p: float, waits: float, mean: float, service: float, cv: float) -> float:
    """P(wait + service > t) = 1 − p by bisection; service lognormal, 16 equally likely values."""
    if math.isinf(mean):
        return math.inf
    sigma = math.sqrt(math.log1p(cv * cv))
    values = [math.exp(sigma * NormalDist().inv_cdf((i + 0.5) / 16)) for i in range(16)]
    values = [service * v * 16 / sum(values) for v in values]
    rate = max(waits, 1e-12) / mean if mean > 0 else math.inf

    def late(t: float) -> float:
        return (
            sum(1.0 if t < v else waits * math.exp(-(t - v) * rate) if t > v else waits for v in values) / 16
        )

    low, high = 0.0, max(values) * 2 + 100 * mean
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
