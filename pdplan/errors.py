"""Errors that pdplan raises, all under one root.

    PdplanError                 anything the user can mend
    ├── InputError              a flag, file or value is wrong             (exit 2)
    │   ├── UnknownNameError    a name that no catalog knows               (exit 2)
    │   └── CatalogError        a catalog file is malformed                (exit 2)
    └── NoPriceError            cost asked for an unpriced accelerator     (exit 2)

"Infeasible" is not an error: it is an answer, carried by the result.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_WORD = re.compile(r"[a-z0-9]+")


class PdplanError(Exception):
    """Root of every error that a user can cause and mend."""


class InputError(PdplanError):
    """A flag, file or value is wrong; the message says where, what and how to mend it."""

    def __init__(self, message: str, *more: str) -> None:
        super().__init__(message)
        self.messages: tuple[str, ...] = (message, *more)
        """Every finding, one line each: all errors of a file are reported at once."""

    def __str__(self) -> str:
        return "\n".join(self.messages)


class CatalogError(InputError):
    """A catalog file cannot be read or does not fit the schema."""


class NoPriceError(InputError):
    """A cost was asked for, but the accelerator has no price in any catalog."""


class UnknownNameError(InputError):
    """A name that no catalog knows, with the names that are close to it."""

    def __init__(self, kind: str, name: str, known: Iterable[str], mend: str = "") -> None:
        self.kind, self.name = kind, name
        self.suggestions = nearest(name, known)
        hint = f"; did you mean {quoted_list(self.suggestions)}?" if self.suggestions else ""
        super().__init__(f"unknown {kind} '{name}'{hint}{' ' + mend if mend else ''}")


def nearest(name: str, known: Iterable[str], limit: int = 3) -> tuple[str, ...]:
    """The known names that read most like `name`, best first; else those that hold it, shortest first;
    else those that it holds, longest first.

    >>> nearest("h20o", ["h200", "h20", "mi300x"])
    ('h20', 'h200')
    >>> nearest("llama", ["llama-3.1-405b", "llama-3.1-8b", "qwen3-8b"])
    ('llama-3.1-8b', 'llama-3.1-405b')
    >>> nearest("NVIDIA H200 Tensor Core GPU", ["h20", "h200", "mi300x"])
    ('h200',)
    """
    by_folded = {k.casefold(): k for k in known}
    wanted = name.casefold().strip()
    close = difflib.get_close_matches(wanted, by_folded, n=limit, cutoff=0.6)
    if not close and len(wanted) > 1:
        close = sorted((k for k in by_folded if wanted in k), key=lambda k: (len(k), k))[:limit]
    if not close:
        words = _WORD.findall(wanted)
        close = sorted((k for k in by_folded if len(k) > 1 and k in words), key=len, reverse=True)[:limit]
    return tuple(by_folded[c] for c in close)


def quoted_list(names: Iterable[str]) -> str:
    """Join names for a sentence.

    >>> quoted_list(["a", "b", "c"])
    "'a', 'b' or 'c'"
    """
    quoted = [f"'{n}'" for n in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} or {quoted[-1]}"
