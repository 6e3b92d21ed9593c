"""What fits on one accelerator of each pool."""

from __future__ import annotations

from pdplan.architecture.stages import Stage, stages_of, whole
from pdplan.evaluate import pool_memory
from pdplan.explain.builder import Builder, Quantity, number
from pdplan.explain.case import Case
from pdplan.explain.sources import PLAN, Sources
from pdplan.explain.writer import used_in
from pdplan.memory import (
    SequencePart,
    WeightPart,
    sequence_parts,
    weight_parts,
    widest_mlp,
)
from pdplan.serving.pools import Pool


def write_memory(b: Builder, case: Case) -> None:
    """Section 4."""
    b.section(
        "memory",
        "Memory fit",
        "Weights, reserve and KV cache on the fullest accelerator of a worker; requests at full length.",
    )
    for name, pool in case.pools.items():
        _write_pool(b, case, name, pool, case.sources[name])


def _write_pool(b: Builder, case: Case, name: str, pool: Pool, sources: Sources) -> None:
    budget = pool_memory(pool, case.workload)
    setting, layout = pool.setting, pool.layout
    draft = setting.draft if pool.speculation.drafted else None
    length = case.workload.isl + case.workload.osl
    stage = stages_of(setting.stack.order, whole(setting.stack), int(number(layout.pp)))[
        int(number(budget.stage))
    ]
    if number(layout.pp) > 1:
        b.note(
            f"{name}: of {number(layout.pp):g} stages, the one that holds the fewest requests: "
            f"{stage.layers} of {setting.stack.layers} layers"
            + (", the embedding" if stage.first else "")
            + (", the head" if stage.last else "")
            + "."
        )
    usable = b.line(
        "M",
        "memory that the engine takes",
        "M_gpu*u",
        {"M_gpu": sources.usable(), "u": sources.engine("memory_utilisation")},
        "B",
        value=budget.usable,
        group=name,
    )
    parts = list(weight_parts(setting.stack, setting.formats, layout, stage))
    if draft is not None and stage.last:
        parts += list(weight_parts(draft, setting.formats.of_draft, layout, whole(draft)))
    held = [_weight_line(b, sources, part, name) for part in parts]
    used = {"W_l": b.total("W_l", "weights of the layers", held, "B", prefix="W", group=name)}
    if stage.first or stage.last:
        used["W_e"] = _write_ends(b, sources, pool, stage, name)
    weights = b.line("W", "weights on one GPU", "+".join(used), used, "B", value=budget.weights, group=name)
    reserve = _write_reserve(b, sources, pool, budget.reserve, name)
    left = b.line(
        "C",
        "left for the cache",
        "M-W-R",
        {"M": usable, "W": weights, "R": reserve},
        "B",
        value=budget.cache,
        group=name,
    )
    context = b.line(
        "c", "full length of a request", "ISL+OSL", {"ISL": case.isl, "OSL": case.osl}, "tokens", group=name
    )
    kept = [
        _sequence_line(b, sources, part, context, name)
        for part in sequence_parts(setting.stack, setting.formats, layout, length, stage)
    ]
    each = b.total(
        "c_s",
        "cache and state of one request on one GPU",
        kept,
        "B",
        prefix="c",
        value=budget.sequence,
        group=name,
    )
    dp = sources.plan(number(layout.dp), "ranks")
    b.line(
        "N_max",
        "requests that a worker holds",
        "floor(max(C,0)/max(c_s,1))*dp",
        {"C": left, "c_s": each, "dp": dp},
        "requests",
        value=budget.max_sequences,
        group=name,
        binding="memory" if number(budget.max_sequences) < 1 else None,
    )


def _weight_line(b: Builder, sources: Sources, part: WeightPart, group: str) -> Quantity:
    used = {
        "L": sources.model(part.count, "tensors"),
        "e": sources.model(part.elements, "elements"),
        "w": Quantity(
            part.bytes_per_element, "B", f"stored as {sources.setting.formats.precision} keeps this part"
        ),
        "s": sources.plan(number(part.shards), "ranks"),
    }
    return b.line("W", part.name, "L*e*w/s", used, "B", value=part.bytes, group=group, detail=True)


def _sequence_line(
    b: Builder, sources: Sources, part: SequencePart, context: Quantity, group: str
) -> Quantity:
    entries = number(part.entries)
    kept = context if entries == context.value else sources.model(entries, "entries")
    used = {
        "L": sources.model(part.count, "layers"),
        "x": kept,
        "e": sources.model(part.elements, "elements"),
        "w": Quantity(part.bytes_per_element, "B", f"{part.name} format"),
        "s": sources.plan(number(part.shards), "ranks"),
    }
    return b.line(
        "c", f"{part.name} of a request", "L*x*e*w/s", used, "B", value=part.bytes, group=group, detail=True
    )


def _write_ends(b: Builder, sources: Sources, pool: Pool, stage: Stage, group: str) -> Quantity:
    """Embedding and head, as far as the stage has them."""
    stack, formats = pool.setting.stack, pool.setting.formats
    used = {
        "V": sources.model(stack.vocab_size, "tokens"),
        "H": sources.model(stack.hidden_size, "elements"),
        "tp": sources.plan(number(pool.layout.tp), "ranks"),
    }
    kinds = []
    if stage.first or stack.tie_embeddings:
        kinds.append("w_e")
        used["w_e"] = Quantity(
            formats.weight_bytes("embedding"), "B", f"embedding stored as {formats.checkpoint.embedding}"
        )
    if stage.last and not stack.tie_embeddings:
        kinds.append("w_h")
        used["w_h"] = Quantity(formats.weight_bytes("head"), "B", f"head stored as {formats.checkpoint.head}")
    name = {"w_e": "embedding", "w_h": "head"}[kinds[0]] if len(kinds) == 1 else "embedding and head"
    width = kinds[0] if len(kinds) == 1 else f"({'+'.join(kinds)})"
    return b.line("W_e", name, f"V*H*{width}/tp", used_in(f"V*H*{width}/tp", used), "B", group=group)


def _write_reserve(b: Builder, sources: Sources, pool: Pool, value: object, group: str) -> Quantity:
    stack = pool.setting.stack
    several = number(pool.layout.gpus) > 1
    used = {
        "R_0": sources.engine("runtime_reserve_bytes", "B"),
        "n_s": sources.engine("sampler_sequences", "sequences"),
        "V": sources.model(stack.vocab_size, "tokens"),
        "b_s": sources.engine("sampler_bytes_per_logit", "B"),
        "T": sources.engine("max_step_tokens", "tokens"),
        "H": sources.model(stack.hidden_size, "elements"),
        "F": sources.model(widest_mlp(stack), "elements"),
        "tp": Quantity(number(pool.layout.tp), "ranks", PLAN),
    }
    expression = "R_0+n_s*V*b_s+T*2*(4*H+3*F/tp)"
    if several:
        expression, used = (
            f"R_c+{expression}",
            used | {"R_c": sources.engine("collective_reserve_bytes", "B")},
        )
    return b.line(
        "R",
        "reserve: runtime, collectives, sampler, activations",
        expression,
        used,
        "B",
        value=value,
        group=group,
    )
