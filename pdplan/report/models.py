"""What `models list` and `models show` say: a model in numbers, as its publisher has it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from pdplan import __version__
from pdplan.architecture.checkpoints import PRECISIONS, checkpoint_for
from pdplan.architecture.feed_forward import Experts
from pdplan.architecture.model import ActiveCounts, Layers, Model
from pdplan.architecture.parameters import (
    index_bytes_per_token,
    kv_bytes_per_token,
    parameters_active,
    parameters_total,
    state_bytes_per_sequence,
    weight_bytes,
)
from pdplan.report.blocks import Bullets, Cell, Headline, Report, table
from pdplan.report.contract_version import SCHEMA_VERSION
from pdplan.report.words import counted
from pdplan.units import format_bytes, format_count

Row = tuple[Cell | str, ...]


def models_report(models: Sequence[Model]) -> Report:
    """A table of models."""
    records = [_model_summary(m) for m in models]
    rows: list[Row] = [
        (
            r["name"],
            parameters_text(r["parameters_total"]),
            parameters_text(r["parameters_active"]),
            format_bytes(r["kv_bytes_per_token"]),
            r["precision"],
            f"{r['max_context_tokens']:,}",
            r["attention"],
        )
        for r in records
    ]
    columns = "name|>parameters|>active|>KV per token|?own precision|>?context|~attention"
    return Report(
        blocks=(table("", columns, rows),),
        data={**_header(), "models": records},
        records=tuple(records),
    )


def model_report(model: Model, path: str) -> Report:
    """One model: counts, bytes, layers, checkpoints, sources."""
    data = _model_data(model, path)
    total, active = (parameters_text(data[f"parameters_{kind}"]) for kind in ("total", "active"))
    stored: list[Row] = [
        (name, format_bytes(size), checkpoint_for(model, name).source)
        for name, size in data["weight_bytes"].items()
    ]
    sources: list[Row] = [
        ("source", model.source),
        ("date", model.date),
        ("ids", ", ".join(model.hugging_face_ids)),
        *([("also called", ", ".join(model.aliases))] if model.aliases else []),
        ("file", path),
    ]
    layers = layer_rows([(str(g.count), attention_text(g), feed_forward_text(g)) for g in model.layers])
    blocks = (
        Headline(f"{model.name}: {total} parameters, {active} active"),
        table("", "||~", _facts(model, data)),
        table("Layers", ">count|~attention|~feed-forward", layers),
        table("Weights", "precision|>bytes|~stored as", stored),
        table("Sources", "|~", sources),
        Bullets(title="Notes", items=model.notes),
    )
    flat = {
        k: v for k, v in data.items() if k not in ("layers", "published", "schema_version", "pdplan_version")
    }
    return Report(blocks=blocks, data=data, records=(flat,))


def _model_data(model: Model, path: str) -> dict[str, Any]:
    """Everything that is told of a model, for JSON."""
    published = model.published
    return {
        **_header(),
        **_model_summary(model),
        "weight_bytes": weights_by_precision(model),
        "index_bytes_per_token": _whole(index_bytes_per_token(model)),
        "state_bytes_per_sequence": _whole(state_bytes_per_sequence(model)),
        "hugging_face_ids": list(model.hugging_face_ids),
        "aliases": list(model.aliases),
        "hidden_size": model.hidden_size,
        "vocab_size": model.vocab_size,
        "tie_embeddings": model.tie_embeddings,
        "layers": [_layers_json(group) for group in model.layers],
        "draft_modules": model.draft.modules if model.draft else 0,
        "published": {
            "parameters_total": published.parameters_total,
            "parameters_active": published.parameters_active,
            "source": published.source,
            "note": published.note,
        }
        if published
        else None,
        "source": model.source,
        "date": model.date,
        "file": path,
        "notes": list(model.notes),
    }


def _facts(model: Model, data: dict[str, Any]) -> list[Row]:
    """Counts, bytes a token, shape."""
    published = model.published
    own = _counting(model)
    facts: list[Row] = [
        ("parameters", _exact(data["parameters_total"]), _beside(published, "parameters_total")),
        (
            "active per token",
            _exact(data["parameters_active"]),
            _beside(published, "parameters_active", own),
        ),
        ("KV cache per token", f"{data['kv_bytes_per_token']:,.0f} bytes", "in 16 bit"),
    ]
    if data["index_bytes_per_token"]:
        facts.append(
            ("indexer keys per token", f"{data['index_bytes_per_token']:,.0f} bytes", "in their own format")
        )
    if data["state_bytes_per_sequence"]:
        facts.append(("state per sequence", format_bytes(data["state_bytes_per_sequence"]), "of any length"))
    return [
        *facts,
        ("context", f"{model.max_context:,} tokens", ""),
        ("hidden size", f"{model.hidden_size:,}", ""),
        ("vocabulary", f"{model.vocab_size:,}", "tied to the head" if model.tie_embeddings else ""),
        ("draft modules", str(data["draft_modules"]), ""),
    ]


def weights_by_precision(model: Model) -> dict[str, float]:
    """Bytes of the weights: the publisher's own precision first, then every other that has a meaning."""
    names = dict.fromkeys((*model.checkpoints, *PRECISIONS))
    return {name: _whole(weight_bytes(model, checkpoint_for(model, name))) for name in names}


def parameters_text(count: float) -> str:
    """
    >>> parameters_text(671026419200), parameters_text(494032768), parameters_text(1.5e12)
    ('671 B', '494 M', '1.50 T')
    """
    for factor, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if count >= factor * 0.9995:
            value = count / factor
            return f"{value:.{max(2 - int(math.log10(max(value, 1))), 0)}f} {unit}"
    return format_count(count)


def layer_rows(rows: Sequence[tuple[str, str, str]]) -> list[Row]:
    """Rows of layers, a pattern of them that repeats shown once: 18 × (1 ... 1).

    >>> layer_rows([("5", "window", ""), ("1", "full", "")] * 10 + [("2", "window", "")])
    [('10 × (5', 'window', ''), ('1)', 'full', ''), ('2', 'window', '')]
    """
    found: list[Row] = []
    at = 0
    while at < len(rows):
        size, times = _pattern(rows, at)
        block = [list(row) for row in rows[at : at + size]]
        if times > 1:
            block[0][0] = f"{times} × ({block[0][0]}"
            block[-1][0] += ")"
        found += [tuple(row) for row in block]
        at += size * times
    return found


def attention_text(group: Layers) -> str:
    """The mixer of a group of layers in a few words."""
    mixer: Any = group.attention
    if mixer is None:
        return "none"
    cores, state = mixer.cores(), mixer.state()
    words = [mixer.kind]
    if cores:
        words.append(counted(cores[0].heads, "head"))
    if getattr(mixer, "kv_heads", None):
        words.append(counted(mixer.kv_heads, "KV head"))
    for core in cores:
        if core.window:
            words.append(f"window {core.window:,}")
        if core.top_k:
            words.append(f"top {core.top_k:,}")
    if state is not None:
        words.append(f"state {format_bytes(state.elements * state.bytes_per_element)}")
    return ", ".join(dict.fromkeys(words))


def feed_forward_text(group: Layers) -> str:
    block = group.feed_forward
    if block is None:
        return "none"
    if isinstance(block, Experts):
        shared = f", shared {block.shared_intermediate_size:,}" if block.shared_intermediate_size else ""
        return f"{block.per_token} of {block.experts} experts of {block.intermediate_size:,}{shared}"
    return f"dense {block.intermediate_size:,}"


# ------------------------------------------------------------------------ inside


def _header() -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "pdplan_version": __version__}


def _model_summary(model: Model) -> dict[str, Any]:
    kinds = dict.fromkeys(group.attention.kind for group in model.layers if group.attention)
    return {
        "name": model.name,
        "parameters_total": parameters_total(model),
        "parameters_active": parameters_active(model, _counting(model)),
        "parameters_active_counts": _counting(model),
        "kv_bytes_per_token": _whole(kv_bytes_per_token(model)),
        "precision": next(iter(model.checkpoints)),
        "max_context_tokens": model.max_context,
        "attention": " ".join(kinds),
        "layers_total": sum(group.count for group in model.layers),
        "experts": max(
            (g.feed_forward.experts for g in model.layers if isinstance(g.feed_forward, Experts)), default=0
        ),
    }


def _counting(model: Model) -> ActiveCounts:
    """Which tables count as active: publishers differ, and their figure is the one people compare with."""
    return model.published.active_counts if model.published else "all"


def _layers_json(group: Layers) -> dict[str, Any]:
    return {
        "count": group.count,
        "attention": attention_text(group),
        "feed_forward": feed_forward_text(group),
    }


def _pattern(rows: Sequence[object], start: int) -> tuple[int, int]:
    """Length of the pattern that repeats from `start` over the most rows, and how often; else (1, 1)."""
    best = (1, 1)
    for size in range(1, (len(rows) - start) // 2 + 1):
        times = 1
        first = rows[start : start + size]
        while rows[start + times * size : start + (times + 1) * size] == first:
            times += 1
        if times > 1 and size * times > best[0] * best[1]:
            best = (size, times)
    return best


def _whole(value: float) -> float:
    """A whole number as such: JSON then shows every digit."""
    return int(value) if value == int(value) else value


def _exact(count: int) -> str:
    return f"{count:,}"


def _beside(published: Any, field: str, counts: str = "all") -> str:
    said = getattr(published, field) if published else None
    words = [f"published: {parameters_text(said)}"] if said else []
    words += [counts.replace("_", " ")] if counts != "all" else []
    return "; ".join(words)
