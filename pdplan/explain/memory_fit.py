"""What fits on one accelerator of each pool."""

from __future__ import annotations

from pdplan.evaluate import pool_memory
from pdplan.explain.builder import Builder, Quantity, number
from pdplan.explain.case import Case
from pdplan.explain.sources import PLAN, Sources
from pdplan.memory import SequencePart, WeightPart, sequence_parts, weight_parts, widest_mlp
from pdplan.pools import Pool


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
    pp = sources.plan(number(layout.pp), "stages")
    usable = b.line(
        "M",
        "memory that the engine takes",
        "M_gpu*u",
        {"M_gpu": sources.usable(), "u": sources.engine("memory_utilisation")},
        "B",
        value=budget.usable,
        group=name,
    )
    parts = list(weight_parts(setting.stack, setting.formats, layout))
    draft = setting.draft if pool.speculation.drafted else None
    if draft is not None:
        parts += list(weight_parts(draft, setting.formats, layout))
    held = [_weight_line(b, sources, part, name) for part in parts]
    layers = b.total("W_l", "weights of the layers, before stages", held, "B", prefix="W", group=name)
    ends = _write_ends(b, sources, pool, name)
    weights = b.line(
        "W",
        "weights on one GPU",
        "W_l/pp+W_e",
        {"W_l": layers, "pp": pp, "W_e": ends},
        "B",
        value=budget.weights,
        group=name,
    )
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
    length = case.workload.isl + case.workload.osl
    kept = [
        _sequence_line(b, sources, part, context, name)
        for part in sequence_parts(setting.stack, setting.formats, layout, length)
    ]
    used = {f"c_{i}": x for i, x in enumerate(kept, 1)}
    each = b.line(
        "c_s",
        "cache and state of one request on one GPU",
        f"({'+'.join(used)})/pp",
        used | {"pp": pp},
        "B",
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


def _write_ends(b: Builder, sources: Sources, pool: Pool, group: str) -> Quantity:
    stack, formats = pool.setting.stack, pool.setting.formats
    used = {
        "V": sources.model(stack.vocab_size, "tokens"),
        "H": sources.model(stack.hidden_size, "elements"),
        "w_e": Quantity(
            formats.weight_bytes("embedding"), "B", f"embedding stored as {formats.checkpoint.embedding}"
        ),
        "tp": sources.plan(number(pool.layout.tp), "ranks"),
    }
    expression = "V*H*w_e/tp"
    if not stack.tie_embeddings:
        expression = "V*H*(w_e+w_h)/tp"
        used["w_h"] = Quantity(formats.weight_bytes("head"), "B", f"head stored as {formats.checkpoint.head}")
    name = "embedding and head"
    if number(pool.layout.pp) > 1:
        expression, name = f"{expression}/2", f"{name}, on the first and the last stage"
    return b.line("W_e", name, expression, used, "B", group=group)


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
