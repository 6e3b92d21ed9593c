"""`pdplan models add`: a config.json becomes a file of the user's own catalog."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pdplan.architecture.model import Model
from pdplan.architecture.parameters import kv_bytes_per_token, parameters_total
from pdplan.catalog.hugging_face.config import model_from_config
from pdplan.catalog.hugging_face.entry import catalog_yaml
from pdplan.catalog.store import ENVIRONMENT_VARIABLE, Catalog, per_user_folder
from pdplan.documents.file_kinds import mistaken_text
from pdplan.documents.files import parse_json, parse_yaml, read_text, shown_name, write_atomic
from pdplan.documents.validation import validate
from pdplan.errors import InputError, UnknownNameError

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_NAME = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
_SAYS_NOTHING = {"config", "model", "."}


@dataclass(frozen=True, kw_only=True)
class Added:
    """The new entry, its file, and what its user should know."""

    model: Model
    path: Path
    remarks: tuple[str, ...]


def target_folder(asked: Path | None, catalogs: Sequence[Path]) -> Path:
    """Where a new entry goes: as asked, else the first folder of the user's own."""
    if asked is not None:
        return asked
    if catalogs:
        return catalogs[0]
    listed = [p for p in os.environ.get(ENVIRONMENT_VARIABLE, "").split(os.pathsep) if p]
    return Path(listed[0]) if listed else per_user_folder()


def add_from_config(
    config: Path, folder: Path, *, name: str | None, hugging_face_id: str | None, replace: bool = False
) -> Added:
    """Convert, check and write; raises InputError and leaves no file where anything is wrong."""
    if not config.exists() and _HUB_NAME.fullmatch(str(config)):
        raise InputError(
            f"{config}: there is no such file, and pdplan reads nothing from the network; download "
            f"https://huggingface.co/{config}/resolve/main/config.json and give that file"
        )
    text = read_text(config)
    mistaken = mistaken_text(text, shown_name(config), "config")
    if mistaken:
        raise InputError(f"{shown_name(config)}: {mistaken}")
    document = parse_json(text, shown_name(config))
    identity = hugging_face_id or _identity(config, document.data)
    if name is None and identity is None:
        raise InputError(f"{config}: the file does not say which model this is; give a name: --name my-model")
    chosen = name or _slug(str(identity).rpartition("/")[2])
    if not _NAME.fullmatch(chosen):
        raise InputError(
            f"--name: '{chosen}' is no catalog name: lower-case letters and digits, joined by - _ or .; "
            f"write for example '{_slug(chosen) or 'my-model'}'"
        )
    path = folder / f"{chosen}.yaml"
    if path.exists() and not replace:
        raise InputError(
            f"{path}: there already is such an entry; give --force to replace it, or another --name"
        )
    entry = model_from_config(
        document.data,
        name=chosen,
        hugging_face_id=identity or chosen,
        source=shown_name(config) if identity is None else f"{shown_name(config)} ({identity})",
        date=date.today().isoformat(),
    )
    text = catalog_yaml(entry)
    model = validate(Model, parse_yaml(text, str(path)))
    _require_sense(model, config)
    remarks = list(model.notes)
    if _is_shipped(chosen):
        remarks.append(f"this hides the shipped '{chosen}' wherever {folder} is among the catalogs")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(
            f"{folder}: the folder cannot be made: {problem.strerror}; give another --dir"
        ) from None
    write_atomic(path, text)
    if not _is_searched(folder):
        remarks.append(f"use it with --catalog {folder}, or export {ENVIRONMENT_VARIABLE}={folder}")
    return Added(model=model, path=path, remarks=tuple(remarks))


# ------------------------------------------------------------------------ inside


def _identity(config: Path, data: dict[str, Any]) -> str | None:
    """Who the model is: what the file says, or its own or its folder's name."""
    said = data.get("_name_or_path")
    if isinstance(said, str) and said.strip("./ "):
        return said.strip()
    for word in (config.stem, config.absolute().parent.name):
        if word.casefold() not in _SAYS_NOTHING and _slug(word):
            return word.replace("--", "/")
    return None


def _slug(text: str) -> str:
    """
    >>> _slug("Qwen2.5-0.5B Instruct!")
    'qwen2.5-0.5b-instruct'
    """
    return re.sub(r"[^a-z0-9._]+", "-", text.casefold()).strip("-._")


def _require_sense(model: Model, config: Path) -> None:
    """Refuse what would be no model: counts below one."""
    total, cache = parameters_total(model), kv_bytes_per_token(model)
    if total <= 0 or cache < 0 or min(group.count for group in model.layers) < 1:
        raise InputError(f"{config}: it describes a model of {total:,} parameters; is this the right file?")


def _is_shipped(name: str) -> bool:
    try:
        Catalog(environment="").model(name)
    except UnknownNameError:
        return False
    return True


def _is_searched(folder: Path) -> bool:
    return folder.resolve() in {f.resolve() for f in Catalog().folders}
