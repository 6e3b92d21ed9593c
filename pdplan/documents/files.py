"""Read and write files with care: every failure says where, what and how to mend."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from pdplan.documents.yaml_events import Place, describe, read_documents
from pdplan.errors import InputError, nearest, quoted_list

MAX_BYTES = 16 * 2**20
"""Largest file read: a thousand times the largest catalog entry, and still parsed in seconds."""

STANDARD_INPUT = "-"
"""As the name of a file to read: what is piped in."""

_TEXT_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\])*"|(?<![^\s,{\[])(?P<comment>//|/\*)')

Location = tuple[str | int, ...]
"""Keys and indices that lead from the top of a document to a value."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """The mapping that a file holds, and where in the file each key stands."""

    path: str
    data: dict[str, Any]
    text: str = field(repr=False)
    place: Place | None = field(default=None, repr=False)

    def where(self, location: Location = ()) -> str:
        """`path:line:column` of a key (or of an item), or of its nearest parent that exists.

        >>> parse_yaml("a: 1\\nb:\\n  c: [2, 3]", "x.yaml").where(("b", "c"))
        'x.yaml:3:3'
        >>> parse_yaml("a: 1\\nb:\\n  c: [2, 3]", "x.yaml").where(("b", "c", 1))
        'x.yaml:3:10'
        """
        place = self.position(location)
        return f"{self.path}:{place[0]}:{place[1]}" if place else self.path

    def position(self, location: Location = ()) -> tuple[int, int] | None:
        """Line and column of a key or item, both from 1; None where the text is JSON but not YAML."""
        place = self.place or _json_place(self.text)
        if place is None:
            return None
        for step in location:
            below = next((p for key, p in place.children.items() if str(key) == str(step)), None)
            if below is None:
                break
            place = below
        return place.line, place.column


def read_text(path: str | Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises InputError if it is missing, a folder, unreadable, above `MAX_BYTES` or not UTF-8.
    """
    return decode(read_bytes(path), shown_name(path))


def read_bytes(path: str | Path, most: int | None = None) -> bytes:
    """The bytes of a file; raises InputError if it is missing, a folder, unreadable or above `most`
    (MAX_BYTES unless given)."""
    most = MAX_BYTES if most is None else most
    if str(path) == STANDARD_INPUT:
        if sys.stdin is None:
            raise InputError("<stdin>: standard input is closed; give the name of a file")
        return _piped(sys.stdin.buffer)
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as problem:
        raise _unreadable(Path(path), problem) from None
    if len(content) > most:
        raise _too_large(str(path), most)
    return content


def shown_name(path: str | Path) -> str:
    """How messages name a file: "-" is standard input."""
    return "<stdin>" if str(path) == STANDARD_INPUT else str(path)


@cache
def _piped(stream: BinaryIO) -> bytes:
    """What stands on standard input: kept, since it can be read once only."""
    content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _too_large("<stdin>", MAX_BYTES)
    return content


def decode(content: bytes, name: str) -> str:
    """UTF-8 text with "\\n" line ends; `name` leads the message."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        column = problem.start - (content.rfind(b"\n", 0, problem.start) + 1) + 1
        raise InputError(f"{name}:{line}:{column}: the file is not UTF-8 text; save it as UTF-8") from None
    return text.replace("\r\n", "\n")


def read_yaml(path: str | Path) -> Document:
    """The one mapping in a YAML file."""
    return parse_yaml(read_text(path), shown_name(path))


def parse_yaml(text: str, name: str) -> Document:
    """The one mapping in a YAML text; `name` leads every message.

    >>> parse_yaml("peak: 989e12\\ndate: 2025-01-01\\ncountry: no", "x.yaml").data
    {'peak': 989000000000000.0, 'date': '2025-01-01', 'country': 'no'}
    >>> parse_yaml("a: 1\\na: 2", "x.yaml")
    Traceback (most recent call last):
    ...
    pdplan.errors.InputError: x.yaml:2:1: the key 'a' is here a second time (first in line 1); remove one
    """
    if text.lstrip()[:1] in ("{", "/"):  # JSON, which is YAML too, but for comments that it has not either
        _refuse_comments(text, name)
    documents = iter(_documents(text, name))
    first = next(documents, None)
    if first is None:
        raise InputError(f"{name}:1:1: the file is empty; expected keys and values, such as 'name: value'")
    second = next(documents, None)
    if second is not None and second.place is not None:
        raise InputError(f"{second.where()}: a second document starts here; keep one document in a file")
    return first


def read_json(path: str | Path) -> Document:
    """The one object in a JSON file, such as a model's config.json."""
    return parse_json(read_text(path), shown_name(path))


def parse_json(text: str, name: str) -> Document:
    """The one object in a JSON text; NaN and Infinity are read, since published config.json hold them.

    >>> parse_json('{"hidden_size": 7168, "time_step_limit": [0.0, Infinity]}', "config.json").data
    {'hidden_size': 7168, 'time_step_limit': [0.0, inf]}
    """
    import json

    def pairs_to_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise _DuplicateKeyError(next(k for i, (k, _) in enumerate(pairs) if k in dict(pairs[:i])))
        return found

    if not text.strip():
        raise InputError(f"{name}:1:1: the file is empty; expected a JSON object")
    try:
        data = json.loads(text, object_pairs_hook=pairs_to_dict)
    except json.JSONDecodeError as problem:
        _refuse_comments(text, name)
        where = f"{name}:{problem.lineno}:{problem.colno}"
        raise InputError(f"{where}: not valid JSON: {problem.msg}; check commas, quotes and braces") from None
    except _DuplicateKeyError as problem:
        for _ in _documents(text, name):  # reads JSON too, and says where the second one stands
            pass
        raise InputError(f"{name}: the key '{problem}' is there twice in one object; remove one") from None
    except (RecursionError, ValueError):
        raise InputError(
            f"{name}: nested too deeply, or a number is too long; is this the right file?"
        ) from None
    if not isinstance(data, dict):
        raise InputError(f"{name}:1:1: the file holds {describe(data)}; expected a JSON object")
    return Document(path=name, data=data, text=text)


def refuse_to_overwrite(path: str | Path, read: Iterable[str | Path], flag: str) -> None:
    """Raise InputError where a file to write is one of those that the answer is made from."""
    target = os.path.realpath(path)
    for source in read:
        if str(source) != STANDARD_INPUT and os.path.realpath(source) == target:
            raise InputError(f"{flag}: {path} is what is read; write to another file")


def write_atomic(path: str | Path, text: str) -> None:
    """Write a UTF-8 file so that readers see the old content or the new, never a part.

    A symbolic link is followed; what is no regular file (/dev/stdout) is written to directly.
    """
    import tempfile

    if str(path) == STANDARD_INPUT:
        raise InputError("'-' is no file to write to: the answer itself goes to standard output; name a file")
    target = Path(os.path.realpath(path))
    temporary = ""
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            with open(target, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            return
        if target.is_dir():
            raise InputError(f"{path}: this is a folder; give the name of a file to write")
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else 0o666 & ~_umask()
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
        with open(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, target)
    except (OSError, ValueError) as problem:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise _unwritable(target, str(path), problem) from None
    except BaseException:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise


# ------------------------------------------------------------------------ inside


def _too_large(name: str, most: int) -> InputError:
    return InputError(f"{name}: the file is larger than {most // 2**20} MiB; is this the right file?")


def _refuse_comments(text: str, name: str) -> None:
    """Raise InputError at the first // or /* of a JSON text that stands outside of quotes."""
    for found in _TEXT_OR_COMMENT.finditer(text):
        if found["comment"]:
            line = text.count("\n", 0, found.start()) + 1
            column = found.start() - text.rfind("\n", 0, found.start())
            where = f"{name}:{line}:{column}"
            raise InputError(
                f"{where}: JSON has no comments, '{found['comment']}' starts one; remove it, or write YAML, "
                "whose comments start with '#'"
            )


class _DuplicateKeyError(Exception):
    """A JSON object holds a key twice."""


def _documents(text: str, name: str) -> Iterator[Document]:
    for data, place in read_documents(text, name):
        yield Document(path=name, data=data, text=text, place=place)


def _json_place(text: str) -> Place | None:
    """Places in a JSON text, which nearly always is YAML too; None where it is not."""
    try:
        return next((place for _, place in read_documents(text, "")), None)
    except InputError:
        return None


# ------------------------------------------------------------------------ the file system


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _unreadable(path: Path, problem: Exception) -> InputError:
    if isinstance(problem, FileNotFoundError):
        parent = path.parent
        if not parent.is_dir():
            return InputError(f"{path}: there is no such folder: {parent}")
        if path.is_symlink():
            return InputError(f"{path}: the file that it links to is not there: {os.path.realpath(path)}")
        close = nearest(path.name, _names(parent))
        hint = f"; did you mean {quoted_list(str(parent / c) for c in close)}?" if close else ""
        return InputError(f"{path}: there is no such file{hint}")
    if isinstance(problem, IsADirectoryError):
        yamls = [n for n in _names(path) if n.endswith((".yaml", ".yml", ".json"))]
        hint = f", for example '{path / sorted(yamls)[0]}'" if yamls else ""
        return InputError(f"{path}: this is a folder; give a file{hint}")
    if isinstance(problem, NotADirectoryError):
        return InputError(f"{path}: there is no such folder: {path.parent} is a file")
    if isinstance(problem, PermissionError):
        return InputError(f"{path}: no permission to read it; check its owner and mode")
    return InputError(f"{path}: cannot be read: {_reason(problem)}")


def _unwritable(target: Path, shown: str, problem: Exception) -> InputError:
    if isinstance(problem, FileNotFoundError | NotADirectoryError) and not target.parent.is_dir():
        return InputError(f"{shown}: there is no such folder: {target.parent}; create it first")
    if isinstance(problem, PermissionError):
        return InputError(f"{shown}: no permission to write in {target.parent}; choose another folder")
    return InputError(f"{shown}: cannot be written: {_reason(problem)}")


def _names(folder: Path) -> list[str]:
    """Names in a folder, for suggestions; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return [e.name for e in islice(entries, 10_000)]
    except OSError:
        return []


def _reason(problem: Exception) -> str:
    return getattr(problem, "strerror", None) or str(problem)
