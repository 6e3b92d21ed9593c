"""Words that stand apart from the flag they belong to, told before they are taken for file names."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from pdplan.errors import InputError

_NUMBER = re.compile(r"[$]?\d[\d.,_]*(e[+-]?\d+)?", re.IGNORECASE)
_NAME = re.compile(r"[A-Za-z][\w.-]*(=\S*)?")
_FILE_ENDINGS = (".yaml", ".yml", ".json", ".jsonl", ".csv", ".gz", ".txt")
_ASKING = ("recommend", "compare", "front", "day", "explain")
"""Commands whose first word is a file of inputs, and whose flags name models and accelerators."""
_LISTS = (
    "--hardware",
    "--prefill-hardware",
    "--decode-hardware",
    "--price",
    "--reserved-price",
    "--inventory",
)
_ELSEWHERE = {
    "--model-path": "--model",
    "--accelerator": "--hardware",
    "--accelerators": "--hardware",
    "--gpu": "--hardware",
    "--gpus": "--hardware",
    "--gpu-type": "--hardware",
    "--system": "--hardware",
    "--backend": "--engine",
    "--input-len": "--isl",
    "--random-input-len": "--isl",
    "--output-len": "--osl",
    "--random-output-len": "--osl",
    "--qps": "--rate",
    "--request-rate": "--rate",
    "--itl": "--tpot",
    "--quantization": "--precision",
    "--dtype": "--precision",
    "--kv-cache-dtype": "--kv-precision",
}
"""What engines, their benchmarks and other planners call a flag -> its name here."""
_WITHOUT_RATE = ("front", "day")


def refuse_strays(args: Sequence[str]) -> None:
    """Raise InputError for `--ttft 2 s`, `--price h200 = 2.60`, `--hardware h200 b200` and `--gpu h200`.

    >>> refuse_strays(["recommend", "--ttft", "2", "s"])
    Traceback (most recent call last):
    ...
    pdplan.errors.InputError: --ttft 2 s: the blank parts '2' from 's'; write --ttft 2s
    """
    if len(args) > 1 and args[0] in _ASKING:
        _refuse_name(args[1])
        _refuse_foreign(args)
    for i in range(len(args) - 2):
        flag, value, word = args[i : i + 3]
        if not flag.startswith("--") or "=" in flag or value.startswith("-") or os.path.exists(word):
            continue
        if _NUMBER.fullmatch(value) and _is_unit(word):
            whole = f"{value}{word}"
        elif flag in _LISTS and (word.startswith("=") or value.endswith("=")):
            whole = "".join(_to_the_next_flag(args[i + 1 :]))
        elif flag in _LISTS and _NAME.fullmatch(word) and not word.endswith(_FILE_ENDINGS):
            names = [name.strip(",") for name in _to_the_next_flag(args[i + 1 :])]
            raise InputError(
                f"{flag} {' '.join(names)}: one value follows a flag; write {flag} {','.join(names)}, "
                f"or {flag} again before each"
            )
        else:
            continue
        raise InputError(
            f"{flag} {value} {word}: the blank parts '{value}' from '{word}'; write {flag} {whole}"
        )


def _refuse_foreign(args: Sequence[str]) -> None:
    """A flag by the name that it has in other tools: nearness of spelling would find the wrong one."""
    for word in args[1:]:
        name = word.partition("=")[0]
        ours = _ELSEWHERE.get(name)
        if ours and not (ours == "--rate" and args[0] in _WITHOUT_RATE):
            raise InputError(f"{name}: {args[0]} calls it {ours}")


def _refuse_name(word: str) -> None:
    """A model or an accelerator where a file is expected: say which flag takes it."""
    if not _NAME.fullmatch(word) or word.endswith(_FILE_ENDINGS) or os.path.exists(word):
        return
    from pdplan.catalog.store import Catalog
    from pdplan.errors import UnknownNameError

    catalog = Catalog()
    for flag, find in (("--model", catalog.model), ("--hardware", catalog.accelerator)):
        try:
            find(word)
        except UnknownNameError:
            continue
        raise InputError(f"{word}: a file of inputs is expected here; write {flag} {word}")


def _is_unit(word: str) -> bool:
    from pdplan.units import is_unit

    return is_unit(word)


def _to_the_next_flag(args: Sequence[str]) -> list[str]:
    end = next((i for i, word in enumerate(args) if word.startswith("-")), len(args))
    return list(args[:end])
