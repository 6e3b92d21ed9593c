"""Find accelerators and models by name in the user's catalogs and the shipped ones.

A lookup reads as few files as it can: the one named after the entry, else those
whose text holds the name. The user's folders come before the shipped catalogs,
and an entry there hides a shipped one of the same name.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from pdplan.catalog.spellings import same_entry
from pdplan.catalog.trusted import DoubtError, build
from pdplan.documents.files import Document, decode, parse_yaml, read_bytes
from pdplan.documents.validation import validate
from pdplan.errors import CatalogError, InputError, UnknownNameError, nearest

if TYPE_CHECKING:
    from pdplan.architecture.model import Model
    from pdplan.catalog.accelerator import Accelerator

T = TypeVar("T")
Kind = Literal["accelerator", "model"]

ENVIRONMENT_VARIABLE = "PDPLAN_CATALOG"
"""Folders of the user's own catalogs, separated as in PATH."""

_FOLDERS: dict[Kind, str] = {"accelerator": "hardware_catalog", "model": "models_catalog"}
_SHIPPED: dict[Kind, str] = {"accelerator": "hardware", "model": "models"}
_TELLING_KEY: dict[Kind, str] = {"accelerator": "peak_flop_per_s", "model": "layers"}
_OTHER_NAMES: dict[Kind, tuple[str, ...]] = {
    "accelerator": ("aliases",),
    "model": ("hugging_face_ids", "aliases"),
}
_TOLD_NAMES: dict[Kind, tuple[str, ...]] = {"accelerator": ("aliases",), "model": ("hugging_face_ids",)}
"""Those that are suggested for a name that is not known; a shorthand such as dsr1 helps nobody there."""
_SUFFIXES = (".yaml", ".yml")


def shipped_folder(kind: Kind) -> Path:
    """Where the catalog that comes with pdplan lies: in the wheel, else at the top of the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "_catalogs" / _SHIPPED[kind]
    return inside if inside.is_dir() else package.parent / _FOLDERS[kind]


def user_folders(given: Sequence[Path] = (), environment: str | None = None) -> tuple[Path, ...]:
    """The folders of `--catalog`, then those of $PDPLAN_CATALOG (or of `environment`, if given).

    >>> [p.as_posix() for p in user_folders([Path("mine")], os.pathsep.join(["a", "", "b"]))]
    ['mine', 'a', 'b']
    """
    listed = os.environ.get(ENVIRONMENT_VARIABLE, "") if environment is None else environment
    return (*given, *(Path(p) for p in listed.split(os.pathsep) if p))


def per_user_folder() -> Path:
    """Where `pdplan models add` writes when no folder is named; read if it exists."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "pdplan" / "catalog"


@dataclass(frozen=True)
class _File:
    """A catalog file; `kind` is None where its keys must tell what it describes."""

    path: Path
    kind: Kind | None
    shipped: bool = False
    """It came with pdplan, whose tests validate it in full."""

    @cached_property
    def content(self) -> bytes:
        return read_bytes(self.path)

    @cached_property
    def searchable(self) -> str:
        return _folded(self.content.decode("utf-8", "replace"))

    @cached_property
    def document(self) -> Document:
        """Raises CatalogError if the file is no YAML mapping."""
        try:
            return parse_yaml(decode(self.content, str(self.path)), str(self.path))
        except InputError as problem:
            raise CatalogError(*problem.messages) from None

    def calls_itself(self, wanted: str) -> bool:
        """Whether the text, which may be malformed, gives itself this (folded) name."""
        pattern = rf"""^name-*:-*['"]?{re.escape(wanted)}['"]?-*(#|$)"""
        return re.search(pattern, self.searchable, re.MULTILINE) is not None

    def describes(self) -> Kind | None:
        """What the file is about; None if its keys do not tell."""
        if self.kind is not None:
            return self.kind
        kinds: tuple[Kind, ...] = ("accelerator", "model")
        return next((k for k in kinds if _TELLING_KEY[k] in self.document.data), None)

    def names(self, kind: Kind, keys: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """The name, then the other names in full (those of `keys`, where given); text only, as the
        file may be malformed."""
        data = self.document.data
        others = [data.get(key, ()) for key in (_OTHER_NAMES[kind] if keys is None else keys)]
        listed = [data.get("name"), *(name for names in others if isinstance(names, list) for name in names)]
        return tuple(n for n in listed if isinstance(n, str) and n)


@dataclass(frozen=True)
class _Entry(Generic[T]):
    """What a file holds, checked."""

    kind: Kind
    file: _File
    value: T


class Catalog:
    """Accelerators and models by name: the user's folders first, then the shipped catalogs.

    A folder holds `hardware_catalog/` and `models_catalog/`, or the files themselves, or both.
    """

    def __init__(self, directories: Sequence[Path] = (), *, environment: str | None = None) -> None:
        """`environment` stands for $PDPLAN_CATALOG; where it is given, no per-user folder is read."""
        self._users = user_folders([Path(d) for d in directories], environment)
        own = per_user_folder()
        if environment is None and own.is_dir():
            self._users += (own,)
        self._entries: dict[tuple[Kind, Path], _Entry[Any]] = {}
        self._problems: dict[str, None] = {}
        for folder in self._users:
            if not folder.is_dir():
                what, mend = "does not exist", "a folder of YAML files"
                if folder.exists():
                    what, mend = "is a file, not a folder", f"its folder, '{folder.parent}',"
                raise InputError(
                    f"{folder}: the catalog folder {what}; give {mend} "
                    f"by --catalog or ${ENVIRONMENT_VARIABLE}"
                )

    @property
    def folders(self) -> tuple[Path, ...]:
        """The user's own folders, in the order in which they are searched."""
        return self._users

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with files that were passed over so far, to be shown as warnings."""
        return tuple(self._problems)

    def accelerator(self, name: str) -> Accelerator:
        """The accelerator of this name or alias, in any case, else the one that it is another spelling of
        (`spellings`); raises UnknownNameError."""
        found: Accelerator = self._find("accelerator", name).value
        return found

    def model(self, name: str) -> Model:
        """The model of this name, alias or Hugging Face id, with or without the organisation, in any case,
        else the one that it is another spelling of; raises UnknownNameError."""
        found: Model = self._find("model", name).value
        return found

    def accelerators(self) -> list[Accelerator]:
        """Every accelerator, by name; malformed files are left out and told in `problems`."""
        return self._all("accelerator")

    def models(self) -> list[Model]:
        """Every model, by name; malformed files are left out and told in `problems`."""
        return self._all("model")

    def file_of(self, entry: Accelerator | Model) -> Path:
        """The file that an entry of this catalog was read from."""
        return next(e.file.path for e in self._entries.values() if e.value is entry)

    def digest(self) -> str:
        """SHA-256 over the bytes of every file that answered so far, whatever folder it lay in."""
        return _digest(self._entries.values())

    def digest_of(self, entries: Iterable[Accelerator | Model]) -> str:
        """SHA-256 over the bytes of the files of these entries, in any order."""
        wanted = {id(e) for e in entries}
        return _digest(e for e in self._entries.values() if id(e.value) in wanted)

    def check(self) -> list[str]:
        """Every error of every file, shipped or the user's, each led by file:line:column."""
        messages: list[str] = []
        for files in self._roots:
            seen: dict[tuple[Kind, str], _File] = {}
            for file in files:
                messages += self._check_file(file, seen)
        return messages

    def empty_folders(self) -> tuple[Path, ...]:
        """The user's own folders that hold no catalog file."""
        return tuple(folder for folder, files in zip(self._users, self._roots, strict=False) if not files)

    # ------------------------------------------------------------------------ inside

    @cached_property
    def _roots(self) -> list[list[_File]]:
        """The files of each folder, in the order in which folders are searched."""
        roots = []
        for folder in self._users:
            files = [_File(p, None) for p in _yaml_files(folder)]
            for kind, name in _FOLDERS.items():
                files += [_File(p, kind) for p in _yaml_files(folder / name)]
            roots.append(files)
        roots.append([_File(p, kind, True) for kind in _FOLDERS for p in _yaml_files(shipped_folder(kind))])
        return roots

    def _find(self, kind: Kind, name: str) -> _Entry[Any]:
        wanted = _folded(name.strip())
        broken: list[CatalogError] = []
        for files in self._roots:
            file = self._match(kind, wanted, files, broken) if wanted else None
            if file:
                return self._load(kind, file)
        if broken:  # the name stands in a file that cannot be read: most likely the one asked for
            raise CatalogError(*(m for problem in broken for m in problem.messages))
        known = self._all_names(kind)  # this reads every file, and notes what cannot be read
        own = same_entry(kind, name, known)
        if own is not None:
            return self._find(kind, own)
        command = "hardware list" if kind == "accelerator" else "models list"
        by_entry: dict[str, str] = {}  # of an entry, only the name that reads most like the wanted one
        told = self._all_names(kind, _TOLD_NAMES[kind])
        for close in nearest(name, told, limit=len(told) or 1):
            by_entry.setdefault(told[close], close)
        mend = f"(`pdplan {command}` shows all)"
        for folder in self.empty_folders():
            mend += f"; {folder} holds no catalog file (.yaml, there or in its {_FOLDERS[kind]})"
        raise UnknownNameError(kind, name, by_entry.values(), mend)

    def _match(self, kind: Kind, wanted: str, files: list[_File], broken: list[CatalogError]) -> _File | None:
        """The file of one folder that has this name: by its own name, by its text, without organisation."""
        here = [f for f in files if f.kind in (kind, None)]
        short = wanted.rpartition("/")[2]
        likely = [f for f in here if _folded(f.path.stem) in (wanted, short)]
        for file in likely:
            try:
                if file.describes() == kind and wanted in map(_folded, file.names(kind)):
                    return file
            except InputError as problem:
                raise _as_catalog_error(problem) from None
        by_short_name: _File | None = None
        for file in here:
            try:
                if wanted not in file.searchable:
                    continue
                described = file.describes()
                if described is None and wanted in map(_folded, file.names(kind)):
                    raise CatalogError(_says_nothing(file))
                if described != kind:
                    continue
                names = [_folded(n) for n in file.names(kind)]
            except InputError as problem:
                if file.calls_itself(wanted):  # it would come before the entry of a later folder
                    raise _as_catalog_error(problem) from None
                self._pass_over(problem)
                broken.append(_as_catalog_error(problem))
                continue
            if wanted in names:
                return file
            if kind == "model" and wanted in [n.rpartition("/")[2] for n in names]:
                by_short_name = by_short_name or file
        return by_short_name

    def _load(self, kind: Kind, file: _File) -> _Entry[Any]:
        key = (kind, file.path)
        if key not in self._entries:
            try:
                value = build(_class_of(kind), file.document.data) if file.shipped else None
            except DoubtError:
                value = None
            if value is None:
                value = validate(_class_of(kind), file.document, CatalogError)
            self._entries[key] = _Entry(kind, file, value)
        return self._entries[key]

    def _all(self, kind: Kind) -> list[Any]:
        found: dict[str, Any] = {}
        for files in self._roots:
            for file in files:
                if file.kind not in (kind, None):
                    continue
                try:
                    if file.describes() != kind or set(file.names(kind)[:1]) & found.keys():
                        continue  # another kind, or hidden by the same name in an earlier folder
                    value = self._load(kind, file).value
                    found[value.name] = value
                except InputError as problem:
                    self._pass_over(problem)
        return [found[name] for name in sorted(found)]

    def _pass_over(self, problem: InputError) -> None:
        self._problems.update(dict.fromkeys(problem.messages))

    def _all_names(self, kind: Kind, keys: tuple[str, ...] | None = None) -> dict[str, str]:
        """Every name under which a lookup would succeed (of `keys`, where given), and its entry's own."""
        names: dict[str, tuple[str, str]] = {}
        for file in (f for files in self._roots for f in files):
            try:
                if file.describes() == kind:
                    own = file.names(kind, keys)
                    for name in own:
                        names.setdefault(_folded(name), (name, own[0]))
                        if kind == "model":
                            short = name.rpartition("/")[2]
                            names.setdefault(_folded(short), (short, own[0]))
            except InputError as problem:
                self._pass_over(problem)
        return dict(sorted(names.values()))

    def _check_file(self, file: _File, seen: dict[tuple[Kind, str], _File]) -> Iterator[str]:
        """The file's own errors, and names that another file of the same folder has."""
        try:
            kind = file.describes()
            if kind is None:
                yield _says_nothing(file)
                return
            document, names = file.document, file.names(kind)
        except InputError as problem:
            yield from problem.messages
            return
        try:
            validate(_class_of(kind), document, CatalogError)
        except InputError as problem:
            yield from problem.messages
        if names and names[0] == document.data.get("name") != file.path.stem:
            yield (
                f"{document.where(('name',))}: the name '{names[0]}' differs from the file's; "
                f"rename the file to '{names[0]}{file.path.suffix}'"
            )
        for name in dict.fromkeys(names):
            other = seen.setdefault((kind, _folded(name)), file)
            if other is not file:
                held = [key for key in _OTHER_NAMES[kind] if name in (document.data.get(key) or ())]
                at = ("name",) if name == document.data.get("name") else (held[0],)
                yield f"{document.where(at)}: the name '{name}' is taken by {other.path}; choose another"


def _says_nothing(file: _File) -> str:
    keys = " nor ".join(f"'{key}' (of {k}s)" for k, key in _TELLING_KEY.items())
    return f"{file.document.where()}: has neither {keys}; say what it describes, or move it"


def _class_of(kind: Kind) -> type[Any]:
    if kind == "accelerator":
        from pdplan.catalog.accelerator import Accelerator

        return Accelerator
    from pdplan.architecture.model import Model

    return Model


def _folded(name: str) -> str:
    """A name as lookups compare it: in any case, blanks and underscores as hyphens.

    >>> _folded("H100 SXM"), _folded("deepseek-ai/DeepSeek_R1")
    ('h100-sxm', 'deepseek-ai/deepseek-r1')
    """
    return name.casefold().replace(" ", "-").replace("_", "-")


def _yaml_files(folder: Path) -> list[Path]:
    """The YAML files right in a folder, by name; none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.endswith(_SUFFIXES) and not e.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise InputError(
            f"{folder}: cannot be listed: {problem.strerror}; check its owner and mode"
        ) from None
    return [folder / name for name in sorted(names)]


def _as_catalog_error(problem: InputError) -> CatalogError:
    return problem if isinstance(problem, CatalogError) else CatalogError(*problem.messages)


def _digest(entries: Iterable[_Entry[Any]]) -> str:
    """Over kind, name, and bytes; the same for the same content wherever it lies."""
    total = hashlib.sha256()
    parts = sorted((e.kind, e.value.name, hashlib.sha256(e.file.content).hexdigest()) for e in entries)
    for part in parts:
        total.update("\0".join(part).encode() + b"\n")
    return total.hexdigest()
