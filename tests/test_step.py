"""What a step adds to its kernels: waits for ranks, the busiest rank, products that start like plain ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pdplan.architecture.counts import Matrix
from pdplan.calibration import elementwise
from pdplan.catalog.store import Catalog
from pdplan.compose import World, build_setting
from pdplan.efficiency import Case, as_built, case_constants
from pdplan.laws.collectives import all_reduce, all_reduce_time_s
from pdplan.laws.experts import busiest_rank_factor, last_rank_wait_s
from pdplan.laws.kernel import kernel_time
from pdplan.layout import Layout, Load, decode_load, mixed_load, prefill_load
from pdplan.ops import Message, Op
from pdplan.ops.products import joint_gemm
from pdplan.plan import Serving
from pdplan.step import Setting, StepTime, step_time
from pdplan.step import kernels as step_kernels
from pdplan.step.kernels import law_of

CATALOG = Catalog()
BUILD = "sglang-fp8-blackwell"


def setting(model: str, precision: str = "fp8", hardware: str = "h200", **engine: Any) -> Setting:
    world = World(
        models={model: CATALOG.model(model)},
        accelerators={hardware: CATALOG.accelerator(hardware)},
        prices={},
    )
    serving = Serving(model=model, precision=precision, kv_precision="bf16", engine="vllm")
    built = build_setting(world, serving, hardware)
    changed = replace(built.constants.engine, **engine)
    return replace(built, constants=replace(built.constants, engine=changed))


def network_s(step: StepTime, *names: str) -> float:
    return sum(float(np.asarray(t.total_s)) for t in step.terms if any(n in t.name for n in names))


def test_every_collective_waits_once() -> None:
    """Llama-3.1-70B at tp 4: two all-reduces in each of 80 layers and one gather of the logits, for the last
    of four ranks: sqrt(ln 4/ln 16) of what 16 wait."""
    load = decode_load(8.0, 1024.0, 2048.0)
    layout = Layout(tp=4)
    alone = step_time(setting("llama-3.1-70b", collective_wait_s=0.0), layout, load).total_s
    waiting = step_time(setting("llama-3.1-70b", collective_wait_s=1e-5), layout, load).total_s
    assert float(waiting - alone) == pytest.approx((2 * 80 + 1) * 1e-5 * np.sqrt(0.5))
    one = Layout(tp=1)
    assert float(step_time(setting("llama-3.1-70b", collective_wait_s=1e-5), one, load).total_s) == (
        pytest.approx(float(step_time(setting("llama-3.1-70b", collective_wait_s=0.0), one, load).total_s))
    )


def test_shared_experts_run_beside_the_routed_ones() -> None:
    """DeepSeek-R1: 58 layers have a shared expert beside the routed ones; one more kernel adds their outputs.
    TensorRT-LLM, SGLang and vLLM run it on a second stream, or as one more routed expert."""
    few = decode_load(4.0, 1024.0, 2048.0)
    step = step_time(setting("deepseek-r1"), Layout(tp=8), few)
    terms = {t.name: t for t in step.terms if isinstance(t.source, Op)}
    law = setting("deepseek-r1").constants.roofline("gemm", "fp8-block")
    for name in ("gate+up (shared)", "down (shared)"):
        shared = terms[name]
        assert float(np.asarray(shared.overhead_s)) == 0.0
        assert float(np.asarray(shared.memory_s)) <= float(np.asarray(shared.total_s))
        assert float(np.asarray(shared.total_s)) < 58 * law.overhead_s
    assert float(np.asarray(terms["gate+up (dense)"].overhead_s)) > 0.0
    between = terms["norms, residuals, activations"].source
    assert isinstance(between, Op)
    # vLLM's compiler puts the two norms of a layer into the all-reduces before them.
    assert between.starts == pytest.approx((2 * 61 + 58) / (4 * 61))


def test_an_exchange_may_take_longer_than_its_kernel() -> None:
    """DeepSeek-R1: 58 layers with experts, a dispatch and a combine each; a gather is no exchange."""
    load, slow = decode_load(8.0, 1024.0, 2048.0), {"exchange_wait_s": 1e-4}
    for layout, times in ((Layout(dp=8, ep=8), 2 * 58), (Layout(tp=8), 0), (Layout(dp=8), 0)):
        steps = [step_time(setting("deepseek-r1", **more), layout, load).total_s for more in ({}, slow)]
        assert float(steps[1] - steps[0]) == pytest.approx(times * 1e-4, abs=1e-9)


def test_decode_exchanges_wait_for_the_last_rank_and_prefill_ones_do_not() -> None:
    """DeepSeek-R1: 58 layers with experts, a dispatch and a combine each, whatever the batch."""
    layout = Layout(tp=1, dp=16, ep=16)  # the ranks that the constant holds for
    for load, times in (
        (decode_load(1.0, 1024.0, 2048.0), 2 * 58),
        (decode_load(512.0, 1024.0, 2048.0), 2 * 58),
        (prefill_load(1.0, 2048.0), 0),
    ):
        even, late = (
            step_time(setting("deepseek-r1", rank_wait_s=w), layout, load).total_s for w in (0.0, 5e-5)
        )
        assert float(late - even) == pytest.approx(times * 5e-5, abs=1e-9)


def test_decode_exchanges_end_with_the_rank_that_is_sent_most() -> None:
    """What travels grows by the load of the busiest rank over the mean, as its rows do; starts do not."""
    layout, load = Layout(dp=16, ep=16), decode_load(256.0, 1024.0, 2048.0)
    names = ("expert dispatch", "expert combine")
    even, skewed = (
        step_time(setting("deepseek-r1", expert_skew=c, collective_wait_s=0.0, rank_wait_s=0.0), layout, load)
        for c in (0.0, 1.0)
    )
    few = step_time(
        setting("deepseek-r1", collective_wait_s=0.0, rank_wait_s=0.0),
        layout,
        decode_load(1e-9, 1024.0, 2048.0),
    )
    starts = network_s(few, *names)
    factors = [busiest_rank_factor(16, 256 * 16 * 8, 256, c) for c in (0.0, 1.0)]
    assert (network_s(skewed, *names) - starts) / (network_s(even, *names) - starts) == pytest.approx(
        float(factors[1] / factors[0])
    )


def test_a_step_of_decodes_alone_takes_low_latency_kernels_and_a_prompt_makes_it_no_cheaper() -> None:
    """DeepEP, docs/legacy.md: over 64 ranks of H800, 128 tokens a rank are dispatched in 173 us and combined
    in 314 us by the low-latency kernels; the high-throughput ones, which no graph holds, would take less."""
    constants = {"collective_wait_s": 0.0, "rank_wait_s": 0.0, "expert_skew": 0.0}
    built, layout = setting("deepseek-r1", hardware="h800", **constants), Layout(dp=64, ep=64)
    decodes = decode_load(128.0, 1024.0, 2048.0)
    step = step_time(built, layout, decodes)
    for name, measured_s in (("expert dispatch", 173e-6), ("expert combine", 314e-6)):
        assert network_s(step, name) / 58 == pytest.approx(measured_s, rel=0.15)
        prompt = step_time(built, layout, mixed_load(decodes, prefill_load(1.0, 8.0)))
        assert network_s(prompt, name) >= network_s(step, name)


def test_tokens_travel_to_experts_in_the_bytes_of_the_engine() -> None:
    """Hidden 7168: FP8 out and BF16 back; NVFP4 is four bits and an FP8 scale for sixteen of them."""

    def bytes_of(built: Setting) -> list[float]:
        step = step_time(built, Layout(dp=8, ep=8), decode_load(32.0, 1024.0, 2048.0))
        sources = {t.name: t.source for t in step.terms}
        sent = [sources[name] for name in ("expert dispatch", "expert combine")]
        return [float(np.asarray(m.message_bytes)) for m in sent if isinstance(m, Message)]

    assert bytes_of(setting("deepseek-r1")) == [7168.0, 2 * 7168.0]
    assert bytes_of(setting("deepseek-r1", "fp4")) == [7168.0, 2 * 7168.0]
    narrow = {"fp4_dispatch_bytes": 0.5625, "combine_bytes": 0.5625}
    assert bytes_of(setting("deepseek-r1", "fp4", **narrow)) == [7168 * 0.5 + 448, 7168 * 0.5 + 448]
    assert bytes_of(setting("deepseek-r1", "fp8", **narrow)) == [7168.0, 7168 * 0.5 + 448]


def test_a_sequence_costs_the_engine_as_much_for_each_token_that_it_verifies() -> None:
    # Tokens are accepted one by one: at 64 requests runs that draft three are a sixth slower than if a
    # sequence cost the same whatever it drafts, at 4 they are not.
    costly, free = ({"sequence_overhead_s": s} for s in (1e-5, 0.0))
    for queries in (1.0, 4.0):
        load = decode_load(16.0, 1024.0, 2048.0, queries)
        steps = [step_time(setting("llama-3.1-70b", **e), Layout(tp=4), load).total_s for e in (costly, free)]
        assert float(steps[0] - steps[1]) == pytest.approx(16e-5 * queries)


def test_the_last_of_more_ranks_comes_later() -> None:
    """Largest of r Gaussian delays: two ranks wait half as long as sixteen, one not at all."""
    assert last_rank_wait_s(2e-5, [1, 2, 16]) == pytest.approx([0.0, 1e-5, 2e-5])
    assert np.all(np.diff(last_rank_wait_s(2e-5, np.arange(1, 321))) > 0)


def test_a_norm_over_all_heads_is_summed_over_ranks() -> None:
    """MiniMax-M2.5 norms q and k over all heads at once: one small all-reduce in each of 62 layers."""
    load = decode_load(8.0, 1024.0, 2048.0)
    names = [t.name for t in step_time(setting("minimax-m2.5"), Layout(tp=4), load).terms]
    assert "QK-norm all-reduce" in names
    alone = step_time(setting("minimax-m2.5"), Layout(tp=1), load)
    assert network_s(alone, "QK-norm all-reduce") == 0.0
    llama = step_time(setting("llama-3.1-70b"), Layout(tp=4), load)
    assert network_s(llama, "QK-norm all-reduce") == 0.0


def test_an_fp8_product_starts_like_a_bf16_one_and_passes_over_no_input() -> None:
    constants = setting("llama-3.1-70b").constants
    fp8, plain = constants.roofline("gemm", "fp8"), constants.roofline("gemm", "bf16")
    assert (fp8.overhead_s, fp8.input_traffic) == (plain.overhead_s, 0.0)
    assert "quantised by the op before" in constants.origin("gemm", "fp8").scope
    assert constants.roofline("gemm", "fp8-block").input_traffic > 0


def test_a_step_padded_to_its_graph_costs_products_and_no_more() -> None:
    """A graph for 768 sequences: products have 768 rows, attention cores and experts the real ones."""
    built, layout = setting("deepseek-r1"), Layout(dp=16, ep=16)

    def terms(sequences: float, padded: float) -> dict[str, float]:
        step = step_time(built, layout, decode_load(sequences, 8192.0, 9216.0, padded=padded))
        return {t.name: float(np.asarray(t.total_s)) for t in step.terms}

    few, many, full = terms(5.0, 768.0), terms(20.0, 768.0), terms(768.0, 0.0)
    for name in ("o projection", "gate+up (shared)", "LM head (head)"):
        assert few[name] == pytest.approx(many[name]) == pytest.approx(full[name])
    plain = terms(5.0, 0.0)
    for name in ("attention core (decode)", "gate+up (experts)", "expert dispatch"):
        assert few[name] == pytest.approx(plain[name])
    assert terms(20.0, 4.0) == pytest.approx(terms(20.0, 0.0))  # a graph that is too small is not used
    # Flat by nature: five sequences cost as much as twenty but for what their context and experts take.
    assert sum(few.values()) > 0.7 * sum(many.values())
    assert sum(plain.values()) < 0.7 * sum(few.values())


def test_ranks_that_gather_send_every_token_everywhere() -> None:
    """8 ranks of 32 tokens, hidden 7168: 256 · 7168 elements to all, in 16 bit, or four and their scales."""
    layout, load = Layout(dp=8, ep=8), decode_load(32.0, 1024.0, 2048.0)

    def sent(precision: str, **engine: Any) -> dict[str, float]:
        step = step_time(setting("deepseek-r1", precision, **engine), layout, load)
        found = [
            t.source
            for t in step.terms
            if isinstance(t.source, Message) and t.name.startswith(("tok", "exp"))
        ]
        return {m.name: float(np.asarray(m.message_bytes)) for m in found}

    assert sorted(sent("fp8")) == ["expert combine", "expert dispatch"]
    tokens = 8 * 32 * 7168
    both = sent("fp8", gathers_tokens=1.0)
    assert both == {"tokens all-gather": 2.0 * tokens, "tokens reduce-scatter": 2.0 * tokens}
    narrow = sent("fp4", gathers_tokens=1.0, fp4_dispatch_bytes=0.5625)
    assert narrow == {"tokens all-gather": 0.5625 * tokens, "tokens reduce-scatter": 2.0 * tokens}


def test_q_k_and_v_are_one_product_whose_kv_heads_are_copied_beyond_their_number() -> None:
    """Llama-3.1-70B: 64 heads and 8 KV heads of 128. vLLM's QKVParallelLinear holds 8 query heads and one KV
    head on a rank of 8, (8 + 2)·128 = 1280 columns, and (4 + 2)·128 = 768 on one of 16."""
    built = setting("llama-3.1-70b", "bf16")
    for tp, columns in ((1, 10240), (8, 1280), (16, 768)):
        step = step_time(built, Layout(tp=np.array([float(tp)])), decode_load(1.0, 1024, 1024))
        ops = {op.name: op for op in (t.source for t in step.terms) if isinstance(op, Op)}
        assert not any(name.startswith(("q ", "kv ")) for name in ops)
        assert ops["qkv projection"].stored_bytes == pytest.approx(8192 * columns * 2)
        assert ops["qkv projection"].flop == pytest.approx(2 * 8192 * columns)


def test_latents_are_expanded_for_prompts_and_absorbed_for_answers() -> None:
    """DeepSeek-V3 at tp 8: the down-projections are one product of 1536 + 576 columns; 16 heads on a rank.

    A prompt's latents go through 16·(128 + 128)·512 weights once, those of its cached prefix again; a decode
    step multiplies its queries by 16·128·512 weights before the core and its outputs by as many after it.
    """
    built = setting("deepseek-v3", "fp8")
    layout = Layout(tp=np.array([8.0]))
    prompt, answer = prefill_load(1.0, 1000, 24), decode_load(4.0, 1024, 1024)
    found = {}
    for name, load in (("prompt", prompt), ("answer", answer), ("both", mixed_load(answer, prompt))):
        terms = step_time(built, layout, load).terms
        found[name] = {t.source.name: t.source for t in terms if isinstance(t.source, Op)}
    assert found["answer"]["qkv down projection"].flop == pytest.approx(2 * 4 * 7168 * 2112)
    absorbed = ("query up projection (absorbed)", "output up projection (absorbed)")
    assert not set(absorbed) & set(found["prompt"])
    assert "kv up projection" not in found["answer"]
    assert found["prompt"]["kv up projection"].flop == pytest.approx(2 * 1024 * 512 * 16 * 256)
    for name in absorbed:
        assert found["answer"][name].flop == pytest.approx(2 * 4 * 16 * 128 * 512)
        assert found["answer"][name].stored_bytes == pytest.approx(2 * 16 * 128 * 512)
    for name in (*absorbed, "kv up projection"):
        alone = {**found["prompt"], **found["answer"]}[name]
        assert found["both"][name].flop == pytest.approx(alone.flop)


def test_matrices_of_two_inputs_are_no_one_product() -> None:
    q = Matrix(name="q", rows=8, columns=8, part="attention", split="columns", joined="qkv")
    other = replace(q, name="kv", rows=16)
    with pytest.raises(ValueError, match="one input"):
        joint_gemm((q, other), 1, setting("llama-3.1-8b", "bf16").formats, Layout(tp=np.ones(1)))


def test_an_engine_apart_starts_all_kernels_of_a_layer_as_others_do() -> None:
    """The tables time one pass; an entry is for the kernels of a layer, those of engines apart, too."""
    entry = {"overhead_s": 1.7e-6, "rows": 12, "engines": {"vllm": {"overhead_s": 0.7e-6, "rows": 3}}}
    layer = elementwise._of_a_layer(entry)
    assert layer["overhead_s"] == pytest.approx(4 * 1.7e-6)
    assert layer["engines"]["vllm"] == {"overhead_s": pytest.approx(4 * 0.7e-6), "rows": 3}


def test_a_build_s_fp8_products_slow_prompts_and_leave_decodes_alone() -> None:
    """Block-scaled products of prompts, of experts too, take at least their FLOP over the limit."""
    plain = setting("deepseek-r1")
    built = replace(plain, constants=replace(plain.constants, engine=as_built(plain.constants.engine, BUILD)))
    limit, limited = built.constants.engine.prompt_fp8_flop_per_s, 0
    for load in (prefill_load(1.0, 4096), decode_load(64.0, 4096, 5120)):
        before, after = (step_time(s, Layout(tp=8), load).terms for s in (plain, built))
        for one, other in zip(before, after, strict=True):
            op, own = one.source, one.total_s - one.overhead_s
            products = isinstance(op, Op) and op.dtype == "fp8-block" and op.family in ("gemm", "experts")
            if products and load.has_prefill:
                limited += 1
                own = max(own, op.layers * op.flop / limit)
            assert other.total_s - one.overhead_s == pytest.approx(own)
    assert limited > 5


def test_sglang_gathers_prompts_by_all_reduces() -> None:
    """layers/dp_attention.py: DpPaddingMode.SUM_LEN where a step holds prompts, else MAX_LEN."""
    summing = setting("deepseek-r1", gathers_tokens=1.0, sums_prompts=1.0)
    layout, tokens = Layout(dp=8, ep=8), 8 * 1024 * 7168
    for load, names in (
        (prefill_load(1.0, 1024), {"tokens all-reduce"}),
        (decode_load(32.0, 1024, 2048), {"tokens all-gather", "tokens reduce-scatter"}),
    ):
        found = [t for t in step_time(summing, layout, load).terms if t.name.startswith("tokens")]
        assert {t.name for t in found} == names
        if load.has_prefill:
            message = found[0].source
            assert isinstance(message, Message)
            assert (message.layers, float(np.asarray(message.message_bytes))) == (2 * 58, 2.0 * tokens)


def test_an_engine_s_mla_of_prompts_may_be_slower_than_its_law() -> None:
    """On AMD under SGLang alone; nothing else of the step changes, and no decode."""
    assert case_constants(Case(engine="atom", generation="cdna4")).prompt_mla_factor == 1.0
    assert case_constants(Case(engine="sglang", generation="hopper")).prompt_mla_factor == 1.0
    slow = case_constants(Case(engine="sglang", generation="cdna3")).prompt_mla_factor
    assert slow == case_constants(Case(engine="sglang", generation="cdna4")).prompt_mla_factor > 1.5
    plain, built = setting("deepseek-r1"), setting("deepseek-r1", prompt_mla_factor=slow)
    for load, factor in ((prefill_load(1.0, 4096), slow), (decode_load(64.0, 4096, 5120), 1.0)):
        before, after = (step_time(s, Layout(tp=8), load).terms for s in (plain, built))
        for one, other in zip(before, after, strict=True):
            mla = isinstance(one.source, Op) and one.source.family == "prefill_mla"
            own = (one.total_s - one.overhead_s) * (factor if mla else 1.0)
            assert other.total_s - one.overhead_s == pytest.approx(own)


@pytest.mark.parametrize("model", ["llama-3.1-70b", "deepseek-r1", "deepseek-v3.2", "qwen3-next-80b-a3b"])
@pytest.mark.parametrize("room", [1 << 12, 1])
def test_kernels_timed_together_take_what_each_takes_alone(
    monkeypatch: pytest.MonkeyPatch, model: str, room: int
) -> None:
    """Many layouts under loads of three shapes: every term is its law of its own op or message."""
    monkeypatch.setattr(step_kernels, "ROOM", room)
    of = setting(model)
    layout = Layout(tp=[1, 2, 8, 16], dp=[8, 1, 2, 1], ep=[8, 2, 1, 16])
    for axes in ((4,), (3, 4), ()):
        running = np.linspace(0.5, 200.0, int(np.prod(axes))).reshape(axes)
        load = mixed_load(decode_load(running, 1024.0, 3000.0), prefill_load(1.5, 700.0, 200.0))
        step = step_time(of, layout, load)
        for term in step.terms:
            if isinstance(term.source, Op):
                law, rates = law_of(of, term.source)
                op, engine = term.source, of.constants.engine
                own = engine.kernel_time_factor * (kernel_time(op, rates, law).total_s - law.overhead_s)
                alone = op.layers * (own + law.overhead_s * engine.kernel_overhead_share * op.starts)
                assert np.allclose(term.total_s, alone, rtol=1e-12, atol=0)
            elif isinstance(term.source, Message) and term.source.exchange == "all_reduce":
                message, links = term.source, of.constants.links
                each = all_reduce_time_s(message.message_bytes, message.ranks, links)
                each = each + last_rank_wait_s(of.constants.engine.collective_wait_s, message.ranks)
                happens = True if message.mask is None else message.mask
                assert np.allclose(term.total_s, message.layers * each * happens, rtol=1e-12, atol=0)
        assert np.allclose(step.total_s, sum(t.total_s for t in step.terms), rtol=1e-12, atol=0)


def norm_starts(tp: int, load: Load, **constants: float) -> float:
    """Starts of what stands between products, over those that its law holds: norms and two kernels more."""
    step = step_time(setting("llama-3.1-70b", **constants), Layout(tp=tp), load)
    (op,) = (t.source for t in step.terms if t.name.startswith("norms"))
    assert isinstance(op, Op)
    return float(np.asarray(op.starts))


def test_norms_start_no_kernels_where_all_reduces_hold_them() -> None:
    """vLLM on H200: two of four kernels, over up to the eight accelerators that NVLink joins; prompts' sums
    are too large for these kernels, and without tensor parallelism there are none."""
    decodes = decode_load(8.0, 1024.0, 2048.0)
    mixed = mixed_load(decodes, prefill_load(1.0, 512.0))
    starts = [norm_starts(tp, decodes) for tp in (1, 2, 8, 16)]
    assert starts == pytest.approx([1.0, 0.5, 0.5, 1.0])
    assert norm_starts(8, mixed) == norm_starts(8, decodes, fused_norms=0.0) == pytest.approx(1.0)


@pytest.mark.parametrize(("model", "size"), [("llama-3.1-70b", 16384), ("qwen3-32b", 10240)])
def test_tensorrt_llm_s_old_habit_by_hand(model: str, size: int) -> None:
    """128 tokens over eight ranks: one-shot where the sum comes out in FP8 (Llama's checkpoint has one scale
    a tensor), NCCL from 0.5 MB on where it does not (Qwen3's has scales by blocks)."""
    habit = {"one_shot_tokens": 128.0, "small_group_library_bytes": 1e6, "large_group_library_bytes": 5e5}
    of = setting(model, collective_wait_s=0.0, **habit)
    step, links = step_time(of, Layout(tp=8), decode_load(128.0, 1024.0, 2048.0)), of.constants.links
    found = network_s(step, "MLP all-reduce") / of.stack.layers
    kernels = all_reduce(8, links)
    assert kernels.shots is not None
    assert kernels.switch is not None
    library = np.minimum(kernels.ring.at(128 * size), kernels.switch.at(128 * size))
    expected = kernels.shots[0].at(128 * size) if model.startswith("llama") else library
    assert found == pytest.approx(float(expected))


@pytest.mark.parametrize(("model", "dtype"), [("deepseek-v3.2", "fp8"), ("minimax-m3", "bf16")])
def test_an_indexer_multiplies_in_the_type_that_it_keeps_its_keys_in(model: str, dtype: str) -> None:
    """DSA scores in FP8 (DeepSeek-V3.2, section 2.1); MiniMax M3 keeps and scores 16-bit keys."""
    of = setting(model, "bf16" if model == "minimax-m3" else "fp8")
    terms = step_time(of, Layout(tp=8), prefill_load(1.0, 4096.0)).terms
    indexers = [t.source for t in terms if isinstance(t.source, Op) and t.source.family == "indexer"]
    assert indexers
    assert {op.dtype for op in indexers} == {dtype}


def test_a_step_that_is_kept_keeps_no_terms() -> None:
    """A search keeps the seconds of thousands of layouts: with tables and terms it took three times the
    memory. Terms are made when somebody reads them, of what was asked, and sum up to the step."""
    step = step_time(setting("deepseek-r1"), Layout(tp=8, pp=[1, 2]), prefill_load(1.0, 2048.0))
    held = {type(cell.cell_contents) for cell in step.write.__closure__ or ()}
    assert held == {Setting, Layout, Load}
    assert "terms" not in vars(step)
    assert sum(t.total_s for t in step.terms) == pytest.approx(step.total_s, rel=1e-12)
