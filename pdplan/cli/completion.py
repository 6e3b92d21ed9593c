"""What a shell completes behind a flag: names of the catalogs, and words of a fixed choice."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Completion = Callable[[str], list[str]]
"""From what was typed to what it may become."""


def models(incomplete: str) -> list[str]:
    """Models of the catalog that start so."""
    return _from_catalog("model", incomplete)


def accelerators(incomplete: str) -> list[str]:
    """Accelerators of the catalog; of a list with commas, the last one."""
    return _from_catalog("accelerator", incomplete)


def words(*choices: str) -> Completion:
    """One of a few words.

    >>> words("text", "json")("j")
    ['json']
    """
    return lambda incomplete: _starting(choices, incomplete)


_BY_KEY: dict[str, Completion] = {
    "model": models,
    "hardware": accelerators,
    "prefill_hardware": accelerators,
    "decode_hardware": accelerators,
    "engine": words("vllm", "sglang", "trtllm", "atom"),
    "mode": words("any", "disaggregated", "colocated"),
    "objective": words("cost", "gpus", "energy"),
    "granularity": words("gpu", "node", "rack"),
    "format": words("text", "json", "markdown", "csv"),
}


def completion_of(key: str) -> Completion | None:
    """How the flag of this key is completed; None leaves it to the shell, which offers files."""
    return _BY_KEY.get(key)


def _from_catalog(kind: str, incomplete: str) -> list[str]:
    """By the names of its files: reading them all takes longer than a shell waits for."""
    from pdplan.catalog.store import per_user_folder, shipped_folder, user_folders

    shipped = shipped_folder("model" if kind == "model" else "accelerator")
    own = (
        folder / below
        for folder in (*user_folders(), per_user_folder())
        for below in ("models_catalog" if kind == "model" else "hardware_catalog", ".")
    )
    names = {path.stem for folder in (shipped, *own) if folder.is_dir() for path in folder.glob("*.yaml")}
    return _starting(sorted(names), incomplete)


def _starting(choices: Sequence[str], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + choice for choice in choices if choice.startswith(last.casefold())]
