"""One constant of the engine fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Constant:
    """One constant of the fit: where it stands in engines.yaml, where it starts, what it may be."""

    path: tuple[str, ...]
    start: float
    spread: float
    """How far from the start it is at home."""
    low: float
    high: float
