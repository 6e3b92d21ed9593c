"""Every constant that is not a first principle: read from data, resolved for one accelerator and engine.

Constants live in `constants/*.yaml`, each with its source and, where it was
fitted, its fit error. An accelerator without constants of its own takes those of
its generation, then of the generation it inherits from, then the defaults; the
resolved `Constants` remember which, so that `explain` can say so.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from pdplan.documents.files import read_yaml
from pdplan.errors import UnknownNameError
from pdplan.kernel_file import CONSTANTS_DIRECTORY as CONSTANTS_DIRECTORY
from pdplan.kernel_file import Provenance as Provenance
from pdplan.kernel_file import provenance_of, scopes_of
from pdplan.laws.collectives import Links
from pdplan.laws.roofline import Roofline
from pdplan.link_constants import LinkSpeeds as LinkSpeeds
from pdplan.link_constants import links_of


@dataclass(frozen=True, kw_only=True)
class Engine:
    """What a serving engine adds to its kernels. Defaults: an ideal engine."""

    name: str = "ideal"
    step_overhead_s: float = 0.0
    layer_overhead_s: float = 0.0
    sequence_overhead_s: float = 0.0
    expert_skew: float = 0.0
    popularity_drift: float = 0.0
    """Of the experts' uneven popularity, what copies of the busiest, made from past counts, leave."""
    memory_utilisation: float = 1.0
    runtime_reserve_bytes: float = 0.0
    collective_reserve_bytes: float = 0.0
    sampler_bytes_per_logit: float = 0.0
    sampler_sequences: float = 0.0
    max_step_tokens: float = 8192.0
    small_memory_bytes: float = 0.0
    """Below this much memory the engine's defaults for the two above are the small ones."""
    small_sampler_sequences: float = 0.0
    small_step_tokens: float = 8192.0
    mixes_prefill: float = 1.0
    kv_follows_weights: float = 0.0
    transfer_overlap: float = 0.0
    request_overhead_s: float = 0.0
    """What every request costs on the host: HTTP, scheduling, the way back."""
    token_overhead_s: float = 0.0
    """What each token of a prompt costs on the host: text in, tokens out."""
    operation_launch_s: float = 0.0
    """What the host takes to start one operation of a prompt's step, where no graph or compiler does:
    it runs ahead of the kernels, or falls behind them."""
    handover_steps: float = 0.0
    """Steps of a busy decode worker that a request waits for besides its first one: between steps the worker
    hears of it, makes room, sees that its cache is there."""
    drafting_handover_share: float = 1.0
    """Of these steps, those that a worker which drafts takes: its steps last longer and give more tokens."""
    keeps_order: float = 0.0
    """1 where prompts are dealt out to attention ranks in the order of their coming when a step starts, 0
    where they go to ranks at random."""
    mtp_drafted: float = 1.0
    mtp_acceptance: float = 0.7
    kernel_overhead_share: Any = 1.0
    """Share of the kernels' own starts (tables time kernels one by one) that is left in a step, where a
    graph launches them together; a number, or an array over deployments."""
    tuning_exponent: float = 0.0
    """How fast that share falls while engines learn a model: a power of its age, 1 at a year."""
    collective_wait_s: float = 0.0
    """What a collective of a step over 16 ranks waits for the last of them, beyond its kernel."""
    exchange_wait_s: float = 0.0
    """What an exchange with experts takes besides, where its kernels are not those that tables time."""
    rank_wait_s: float = 0.0
    """What each exchange of tokens waits for the last of 16 attention-dp ranks, in a step with decodes."""
    exchange_cores: float = 0.0
    """Share of an accelerator's cores that high-throughput exchanges hold while kernels run beside them."""
    dispatch_bytes: float = 1.0
    """Of an element of a token on its way to an expert: FP8, DeepEP's wire format."""
    combine_bytes: float = 2.0
    """Of an element of what comes back: 16 bit."""
    fp4_dispatch_bytes: float = 1.0
    """The same where weights are FP4: an engine may send tokens as its products read them."""
    gathers_tokens: float = 0.0
    """1: under attention-dp every rank gets all tokens, by all-gather, not each expert its own."""
    kernel_time_factor: float = 1.0
    """How much longer kernels run than their law says, on accelerators without kernel tables."""
    prompt_mla_factor: float = 1.0
    """How much longer MLA of prompts runs than its law says, by the kernels of one engine."""
    sums_prompts: float = 0.0
    """1: where ranks gather, the tokens of prompts come by an all-reduce, and so do the experts' sums."""
    prompt_fp8_flop_per_s: float = math.inf
    """Most that block-scaled FP8 products of a step with prompts reach, linear layers' and experts'."""
    fused_norms: float = 0.0
    """1: the kernel of an all-reduce adds to the residual and normalises, in steps of decodes."""
    one_shot_tokens: float = 0.0
    """All-reduces of up to so many tokens take the one-shot kernel, faster or not; 0: the fastest."""
    small_group_library_bytes: float = math.inf
    """From this message on such an engine takes the library's all-reduce over up to four ranks,"""
    large_group_library_bytes: float = math.inf
    """and over more, unless the sum is quantised in the same kernel."""
    preempts: float = 0.0
    """1: sequences get memory as they grow, and the newest gives way where there is none; 0: they are let in
    only where their whole answer fits."""
    partial_ep: float = 1.0
    """1: experts may be spread over a part of the ranks; 0: over all of them or none."""


@dataclass(frozen=True, kw_only=True)
class Constants:
    """All constants of one (accelerator, engine). `ideal()` is the data sheet itself."""

    links: Links
    engine: Engine
    rooflines: Mapping[tuple[str, str], Roofline] = field(default_factory=dict)
    """By (family, arithmetic type); ("gemm", "") serves every type without its own."""
    provenance: Mapping[tuple[str, str], Provenance] = field(default_factory=dict)

    def _key(self, family: str, dtype: str) -> tuple[str, str]:
        return (family, dtype) if (family, dtype) in self.rooflines else (family, "")

    def roofline(self, family: str, dtype: str) -> Roofline:
        return self.rooflines.get(self._key(family, dtype), _IDEAL)

    def origin(self, family: str, dtype: str) -> Provenance:
        return self.provenance.get(
            self._key(family, dtype), Provenance(source="first principles", scope="ideal")
        )


_IDEAL = Roofline()


def ideal_constants(links: Links) -> Constants:
    """Efficiencies 1, overheads 0, a sharp ridge: the limit in which the two seed formulas hold."""
    return Constants(links=links, engine=Engine())


@dataclass(frozen=True, kw_only=True)
class Case:
    """What an engine's constants are asked for; a calibration may know the accelerator and the model, too."""

    engine: str
    generation: str = ""
    accelerator: str = ""
    model: str = ""


def resolve_constants(case: Case, speeds: LinkSpeeds, document: Mapping[str, Any] | None = None) -> Constants:
    """The constants of one accelerator under one engine, nearest measurement first.

    `document` stands in for constants/engines.yaml (cross-validation, a user's calibration).
    """
    rooflines, provenance = _kernel_laws(case.accelerator, case.generation, case.engine)
    engine = case_constants(case, document)
    links, origins = links_of(
        case.accelerator, case.generation, speeds, case.engine, bool(engine.fused_norms)
    )
    return Constants(links=links, engine=engine, rooflines=rooflines, provenance={**provenance, **origins})


@functools.cache
def _kernel_laws(
    accelerator: str, generation: str, engine: str
) -> tuple[dict[tuple[str, str], Roofline], dict[tuple[str, str], Provenance]]:
    """The law of each kernel family and number type, and where it comes from; nobody changes them."""
    rooflines: dict[tuple[str, str], Roofline] = {}
    provenance: dict[tuple[str, str], Provenance] = {}
    for scope, block in reversed(scopes_of(accelerator, generation)):  # nearest last: it wins
        for family, by_type in block.items():
            if family in ("links", "inherits"):
                continue
            entries = by_type if _is_by_type(by_type) else {"": by_type}
            if "" in entries:  # a family-wide entry replaces farther per-type ones
                for key in [k for k in rooflines if k[0] == family]:
                    del rooflines[key], provenance[key]
            for dtype, entry in entries.items():
                key = (family, "" if dtype == "any" else dtype)
                own = {**entry, **(entry.get("engines") or {}).get(engine, {})}
                rooflines[key] = _roofline(own)
                provenance[key] = provenance_of(own, scope)
    _fuse_quantisation(rooflines, provenance)
    return rooflines, provenance


def _fuse_quantisation(
    rooflines: dict[tuple[str, str], Roofline], provenance: dict[tuple[str, str], Provenance]
) -> None:
    """FP8 products with one scale per tensor or token, as a step runs them.

    The tables time a linear layer alone, which quantises its input in kernels of its own. In a step the
    norm or activation before it writes FP8 at once: the product starts like one of BF16 and passes over
    no input. Blocks of scales (FP8 by blocks, FP4) keep their pass.
    """
    key, plain = ("gemm", "fp8"), ("gemm", "bf16")
    if key not in rooflines or plain not in rooflines:
        return
    start = min(rooflines[key].overhead_s, rooflines[plain].overhead_s)
    rooflines[key] = replace(rooflines[key], overhead_s=start, input_traffic=0.0)
    scope = f"{provenance[key].scope}, input quantised by the op before it"
    provenance[key] = replace(provenance[key], scope=scope)


def engine_constants(name: str, generation: str = "", document: Mapping[str, Any] | None = None) -> Engine:
    """Constants of an engine by name, on a generation of accelerators.

    `document` stands in for constants/engines.yaml (cross-validation, a user's calibration).
    A name that no file knows raises UnknownNameError.
    """
    return case_constants(Case(engine=name, generation=generation), document)


def case_constants(case: Case, document: Mapping[str, Any] | None = None) -> Engine:
    """As `engine_constants`, with the factors that a calibration has for the accelerator and the model."""
    document = engine_file() if document is None else document
    values = {key: float(entry["value"]) for key, entry in engine_entries(case.engine, document).items()}
    for factors in _factors(case, document):
        for key, entry in factors.items():
            values[key] = values.get(key, 1.0) * float(entry["value"])
    return Engine(name=case.engine, **values)


def engine_sources(case: Case, document: Mapping[str, Any] | None = None) -> dict[str, str]:
    """Where each constant of an engine comes from, for `explain`; of factors on it, the nearest."""
    document = engine_file() if document is None else document
    entries = engine_entries(case.engine, document)
    for factors in _factors(case, document):
        entries = {**entries, **factors}
    return {
        key: f"{document['sources'][entry['source']].strip()}"
        + (f" ({entry['note']})" if "note" in entry else "")
        for key, entry in entries.items()
    }


def engine_entries(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """What every engine has, then what it inherits, then its own."""
    blocks = document["engines"]
    if name not in blocks:
        raise UnknownNameError("engine", name, blocks, f"(known: {', '.join(blocks)})")
    own = blocks[name]
    merged = {**document.get("common", {}), **blocks.get(own.get("inherits", ""), {}), **own}
    return {k: v for k, v in merged.items() if k != "inherits"}


def _factors(case: Case, document: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    """Factors on an engine's constants: of the generation, and of a calibration's accelerator and model."""
    return (
        _generation_entries(case.generation, case.engine, document),
        document.get("accelerators", {}).get(case.accelerator, {}),
        document.get("models", {}).get(case.model, {}),
    )


def _generation_entries(generation: str, engine: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Factors on an engine's constants, for generations without kernel tables; some of one engine alone."""
    block = dict(document.get("generations", {}).get(generation, {}))
    parent = block.pop("inherits", None)
    of_engine = block.get(engine, {})
    own = {key: entry for key, entry in block.items() if "value" in entry} | of_engine
    return {**_generation_entries(parent, engine, document), **own} if parent else own


def benchmark_settings(
    source: str, engine: str, generation: str, document: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """How a benchmark drove its servers: share of the opening burst, tokens of the first streamed chunk."""
    document = engine_file() if document is None else document
    benches = document["benchmarks"]
    found: dict[str, float] = {}
    for block in (benches["any"], benches.get(source, {}), benches.get(f"{source} {engine}", {})):
        for part in (block, *(block.get(name, {}) for name in _lineage(generation, document))):
            found |= {key: float(entry["value"]) for key, entry in part.items() if "value" in entry}
    return found


def _lineage(generation: str, document: Mapping[str, Any]) -> tuple[str, ...]:
    """What a generation inherits from, the farthest first, and itself."""
    parent = document.get("generations", {}).get(generation, {}).get("inherits")
    return (*_lineage(parent, document), generation) if parent else (generation,)


_BUILT = (
    "prompt_fp8_flop_per_s",
    "one_shot_tokens",
    "small_group_library_bytes",
    "large_group_library_bytes",
)
"""Constants of an engine that a build may have others of."""


def as_built(engine: Engine, build: str, document: Mapping[str, Any] | None = None) -> Engine:
    """The engine as a named build of it: starts times a factor, seconds a sequence and an exchange added, a
    limit of what FP8 products of prompts reach, prompts started operation by operation.

    `build` is one of the document's `builds`, or empty for the engine of today.
    """
    if not build:
        return engine
    document = engine_file() if document is None else document
    block = {k: v for k, v in document["builds"][build].items() if k != "inherits"}
    if parent := document["builds"][build].get("inherits"):
        block = {**document["builds"][parent], **block}
    more = {key: float(entry["value"]) for key, entry in block.items()}
    if more.get("launches_prompts"):
        each = float(document["common"]["operation_launch_s"]["value"])
        engine = replace(engine, operation_launch_s=each)
    return replace(
        engine,
        sequence_overhead_s=engine.sequence_overhead_s + more.get("added_sequence_overhead_s", 0.0),
        rank_wait_s=engine.rank_wait_s + more.get("added_rank_wait_s", 0.0),
        kernel_overhead_share=engine.kernel_overhead_share * more.get("kernel_start_factor", 1.0),
        **{name: more.get(name, getattr(engine, name)) for name in _BUILT},
    )


def network_constants() -> dict[str, float]:
    """What large KV transfers reach of the line rate, and what each one costs at least."""
    return {k: float(v["value"]) for k, v in engine_file()["network"]["rdma"].items()}


def network_sources() -> dict[str, str]:
    """Where each of the `network_constants` comes from, for `explain`."""
    document = engine_file()
    return {
        key: f"{document['sources'][entry['source']].strip()}"
        + (f" ({entry['note']})" if "note" in entry else "")
        for key, entry in document["network"]["rdma"].items()
    }


@functools.cache
def engine_file() -> dict[str, Any]:
    """constants/engines.yaml as shipped; copy it before changing anything."""
    return dict(read_yaml(CONSTANTS_DIRECTORY / "engines.yaml").data)


def _is_by_type(block: Mapping[str, Any]) -> bool:
    return all(isinstance(v, Mapping) for v in block.values())


_ROOFLINE_FIELDS = tuple(f.name for f in fields(Roofline))


def _roofline(entry: Mapping[str, Any]) -> Roofline:
    return Roofline(**{k: float(entry[k]) for k in _ROOFLINE_FIELDS if k in entry})
