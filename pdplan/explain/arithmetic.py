"""The arithmetic that lines are written in: evaluated, and printed as people write it.

Python's notation over names and numbers: + - * / **, comparisons nowhere, and
the functions of FUNCTIONS. Greek names are spelled out (eta_c, lam, rho).
"""

from __future__ import annotations

import ast
import functools
import math
import operator
from collections.abc import Callable, Mapping
from statistics import NormalDist

from pdplan.serving.queueing import erlang_c, response_quantile_s


def _erlang_c(servers: float, offered: float) -> float:
    return float(erlang_c(servers, offered))


def _quantile(p: float, waits: float, mean: float, service: float, cv: float, phase: float = 0.0) -> float:
    return float(response_quantile_s(p, waits, mean, service, cv, phase))


FUNCTIONS: Mapping[str, Callable[..., float]] = {
    "max": max,
    "min": min,
    "ceil": math.ceil,
    "floor": math.floor,
    "sqrt": math.sqrt,
    "ln": math.log,
    "exp": math.exp,
    "erlang_c": _erlang_c,
    "normal_quantile": NormalDist().inv_cdf,
    "wait_quantile": _quantile,
}

_OPERATORS: Mapping[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


def evaluate(expression: str, values: Mapping[str, float]) -> float:
    """The value of an expression; raises KeyError for a name without a value.

    >>> evaluate("2*m*k*n", {"m": 1, "k": 4096, "n": 4096})
    33554432.0
    """
    try:
        return float(_value(_parsed(expression), values))
    except (ZeroDivisionError, OverflowError, ValueError):
        return math.nan


@functools.lru_cache(maxsize=4096)
def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATORS[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, values)
        case ast.Call(func=ast.Name(id=name), args=args):
            return FUNCTIONS[name](*(_value(a, values) for a in args))
        case ast.Name(id=name):
            return values[name]
        case ast.Constant(value=int() | float() as number):
            return float(number)
    raise ValueError(f"not arithmetic: {ast.unparse(node)}")


# ---------------------------------------------------------------------------- printing

_GREEK = {
    "alpha": "α",
    "beta": "β",
    "gamma": "γ",
    "eta": "η",
    "lam": "λ",
    "rho": "ρ",
    "sigma": "σ",
    "delta": "Δ",
}
_PRECEDENCE: Mapping[type[ast.operator], int] = {ast.Add: 1, ast.Sub: 1, ast.Mult: 2, ast.Div: 2, ast.Pow: 4}
_UNARY, _ATOM = 3, 5
_SIGNS: Mapping[type[ast.operator], str] = {
    ast.Add: " + ",
    ast.Sub: " − ",
    ast.Mult: " · ",
    ast.Div: " / ",
    ast.Pow: "^",
}


def pretty_name(name: str) -> str:
    """A symbol as printed: Greek letters where spelled out.

    >>> pretty_name("eta_c"), pretty_name("lam"), pretty_name("t_0")
    ('η_c', 'λ', 't_0')
    """
    head, _, tail = name.partition("_")
    return _GREEK.get(head, head) + (f"_{tail}" if tail else "")


def formula(expression: str) -> str:
    """The expression as people write it.

    >>> formula("t_0+sqrt(t_c**2+t_m**2)"), formula("a/(b*c)")
    ('t_0 + sqrt(t_c^2 + t_m^2)', 'a / (b · c)')
    """
    return _printed(_parsed(expression), pretty_name)[0]


def substituted(expression: str, numbers: Mapping[str, str]) -> str:
    """The expression with numbers, as text, in place of names.

    >>> substituted("bytes/(eta*B)", {"bytes": "10", "eta": "0.8", "B": "5e+12"})
    '10 / (0.8 · 5e+12)'
    """
    return _printed(_parsed(expression), lambda name: numbers[name])[0]


def _printed(node: ast.expr, name_of: Callable[[str], str]) -> tuple[str, int]:
    """Text and how tightly it binds."""
    match node:
        case ast.BinOp(left=left, op=op, right=right):
            level = _PRECEDENCE[type(op)]
            a, b = _printed(left, name_of), _printed(right, name_of)
            # Right operands of − and / need brackets at equal rank, a power's base too.
            tight_right = level + (isinstance(op, ast.Sub | ast.Div))
            text = _bracket(a, level + isinstance(op, ast.Pow)) + _SIGNS[type(op)] + _bracket(b, tight_right)
            return text, level
        case ast.UnaryOp(operand=operand):
            return f"−{_bracket(_printed(operand, name_of), _UNARY)}", _UNARY
        case ast.Call(func=ast.Name(id=name), args=args):
            return f"{name}({', '.join(_printed(a, name_of)[0] for a in args)})", _ATOM
        case ast.Name(id=name):
            text = name_of(name)
            return text, 1 if text.startswith("-") else _ATOM
        case ast.Constant(value=int() | float() as value):
            return f"{value:g}".replace("e-0", "e-").replace("e+0", "e"), _ATOM
    raise ValueError(f"not arithmetic: {ast.unparse(node)}")


def _bracket(part: tuple[str, int], at_least: int) -> str:
    text, level = part
    return text if level >= at_least else f"({text})"
