"""How published benchmarks started their servers: rules in data, looked up by run."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace

import numpy as np
import pytest

from pdplan.catalog.store import Catalog
from pdplan.efficiency import as_built, engine_constants, engine_file
from pdplan.measured import servers
from pdplan.measured.predict import predict
from pdplan.measured.recipes import _parsed, recipe_for, recipe_lists
from pdplan.measured.run import Run
from pdplan.measured.runs import sizes_of
from pdplan.measured.servers import (
    as_served,
    engine_settings,
    loop_settings,
    published_share,
    served_weights,
    server_settings,
)
from pdplan.plan import PoolPlan

NAN = float("nan")


def run(**more: object) -> Run:
    given: dict[str, object] = {
        "id": "a", "source": "inferencex", "date": "2026-03-25", "model": "deepseek-r1", "hardware": "b200",
        "engine": "sglang", "engine_version": "", "precision": "fp8", "mode": "colocated", "spec": "none",
        "isl": 1024.0, "osl": 1024.0, "length_spread": 0.2, "concurrency": 8.0,
        "decode": PoolPlan(hardware="b200", workers=1, tp=8), "prefill": None, "ttft_mean_s": 1.0,
        "ttft_median_s": NAN, "tpot_mean_s": 0.01, "gpus": 8, "total_tok_per_s_per_gpu": NAN,
    }  # fmt: skip
    return Run(**{**given, **more})  # type: ignore[arg-type]


def test_the_interval_of_polls_depends_on_the_load_as_the_script_says() -> None:
    # dsr1_fp8_b200.sh: SCHEDULER_RECV_INTERVAL=30 from 16 in flight on, else 10; tp 4 always 10.
    assert server_settings(run())["held_up_to_steps"] == 10
    assert server_settings(run(concurrency=16.0))["held_up_to_steps"] == 30
    four = PoolPlan(hardware="b200", workers=1, tp=4)
    found = server_settings(run(concurrency=64.0, decode=four))
    all_reduces = {"all_reduce": "sglang-0.5.12", "fused_norms": 1, "one_shot_tokens": 128}
    started = {"held_up_to_steps": 10, "step_tokens": 8192, "build": "sglang-fp8-blackwell"}
    assert found == started | all_reduces


def test_a_date_before_the_warm_up_means_a_cold_start() -> None:
    old = run(engine="trtllm", hardware="h200", date="2025-12-08")
    assert server_settings(old) == {"cold": 1, "build": "trtllm-1.1-cutlass", "step_tokens": 1216}
    assert server_settings(replace(old, date="2026-02-01")) == {"build": "trtllm-cutlass"}


def test_scripts_say_how_many_tokens_a_run_drafts() -> None:
    # dsr1_fp8_b200_trt_mtp.sh: MTP=3, and 1 with DP_ATTENTION; dsr1_fp8_b200_mtp.sh: num-steps 2.
    ranks = PoolPlan(hardware="b200", workers=1, tp=1, dp=8, ep=8)
    assert as_served(run(engine="trtllm", spec="mtp")).drafted == 3
    assert as_served(run(engine="trtllm", spec="mtp", decode=ranks)).drafted == 1
    assert as_served(run(spec="mtp")).drafted == 2
    assert as_served(run(spec="mtp", drafted=1)).drafted == 1  # what the table says stands
    assert as_served(run()).drafted == 0


def test_the_first_image_for_mxfp4_is_a_build() -> None:
    pool = PoolPlan(hardware="mi355x", workers=1, tp=8)
    two = run(mode="disaggregated", hardware="mi355x", precision="fp4", prefill=pool, decode=pool)
    assert as_served(replace(two, date="2026-02-28")).build == "sglang-mori-fp4"
    assert as_served(replace(two, date="2026-03-01")).build == ""
    document = engine_file()
    today = engine_constants("sglang", "cdna4", document)
    first = as_built(today, "sglang-mori-fp4", document)
    assert first.kernel_overhead_share > today.kernel_overhead_share


def test_sglang_decodes_48_sequences_where_it_speculates_and_no_flag_says_more() -> None:
    """Of 64 in flight 48 ran on MI355X: 64 · 12.6 s/(4.33 + 12.6 s), of TTFT and TPOT as published."""
    speculating = run(hardware="mi355x", precision="fp4", spec="mtp", date="2026-05-20", concurrency=64.0)
    assert as_served(speculating).decode.max_batch == 48
    assert as_served(replace(speculating, spec="none")).decode.max_batch is None


def test_a_decode_rank_runs_what_its_script_lets_its_cache_hold() -> None:
    """524,288 tokens of a rank: prompts of 0.9 · 8,192, half of answers of 0.9 · 1,024, and 112 kept free."""
    pool = PoolPlan(hardware="gb200", workers=1, tp=1, dp=32, ep=32)
    prefill = PoolPlan(hardware="gb200", workers=10, tp=1, dp=4, ep=4)
    two = run(
        mode="disaggregated", hardware="gb200", precision="fp4", isl=8192.0, decode=pool, prefill=prefill
    )
    each = 0.9 * 8192 + 0.9 * 1024 / 2 + 112
    assert as_served(two).decode.max_batch == 32 * (524288 // each)
    assert as_served(replace(two, isl=1024.0)).decode.max_batch is None
    assert as_served(replace(two, precision="fp8")).decode.max_batch is None


def test_the_cache_has_the_format_of_the_script() -> None:
    # dsr1_fp8_mi355x.sh: kv-cache-dtype fp8_e4m3 from pull request 865 (2026-03-05) on; a table may say so.
    amd = run(hardware="mi355x", date="2026-03-04")
    assert as_served(amd).kv_precision == "auto"
    assert as_served(replace(amd, date="2026-03-05")).kv_precision == "fp8"
    assert as_served(replace(amd, date="2026-03-05", kv_precision="bf16")).kv_precision == "bf16"
    assert as_served(replace(amd, engine="atom")).kv_precision == "fp8"
    assert as_served(run()).kv_precision == "auto"


def test_what_a_script_has_not_stays_the_engine_s_default() -> None:
    # dsr1_fp8_mi355x.sh holds prompts and takes 196,608 tokens a step; glm5_fp8_mi355x.sh has neither flag.
    assert server_settings(run(hardware="mi355x"))["step_tokens"] == 196608
    plain = server_settings(run(hardware="mi355x", model="glm-5"))
    assert (plain["held_up_to_steps"], plain["step_tokens"]) == (0, 8192)


def test_runs_that_lost_their_label_or_date_get_it_back() -> None:
    lost = run(engine="trtllm", engine_version="1.2.0rc6.post3", date="2026-02-06")
    assert as_served(lost).speculates
    assert not as_served(replace(lost, engine_version="1.2.0rc6.post2")).speculates
    assert as_served(run(date="", engine_version="0.5.9")).date == "2026-03-15"
    assert as_served(run(date="", engine_version="lmsysorg/sglang:v0.5.12-cu130")).date == "2026-05-22"
    assert as_served(run(engine_version="0.5.9")).date == "2026-03-25"
    assert as_served(run(date="", source="mine", engine_version="0.5.9")).date == ""


def test_layouts_of_the_first_tables_are_those_that_their_scripts_chose() -> None:
    # dsr1_fp8_h200_trt_slurm.sh of October 2025: EP_SIZE=TP, and attention-dp beyond 64 requests at 1k.
    first = run(engine="trtllm", hardware="h200", date="2025-11-02", concurrency=64.0)
    served = as_served(first).decode
    assert (served.tp, served.dp, served.ep) == (8, 1, 8)
    served = as_served(replace(first, concurrency=128.0)).decode
    assert (served.tp, served.dp, served.ep, served.gpus) == (1, 8, 8, 8)
    assert as_served(replace(first, date="2025-12-05")).decode == first.decode


def test_prompts_wait_for_other_ranks_and_for_one_another_as_scripts_say() -> None:
    ranks = run(engine="trtllm", decode=PoolPlan(hardware="b200", workers=1, dp=8, ep=8))
    assert loop_settings([ranks], {}, 8192.0)["held"].balanced_steps == 60  # timeout_iters
    # 70b_fp4_b200_trt_slurm.sh: 0.9 of 16,384 tokens, or 20 steps, below tp 8.
    half = PoolPlan(hardware="b200", workers=1, tp=4)
    llama = run(model="llama-3.1-70b", engine="trtllm", precision="fp4", decode=half)
    held = loop_settings([llama], {}, 8192.0)["held"]
    assert (held.batched_steps, held.batched_tokens) == (20, 14746)
    whole = replace(llama, decode=replace(half, tp=8))
    assert loop_settings([whole], {}, 8192.0)["held"].batched_steps == 0


def test_prompts_that_run_in_graphs_leave_the_host_nothing_to_start() -> None:
    # dsr1_fp8_b200_trt.sh: PIECEWISE_CUDA_GRAPHS from 64 requests on.
    many = run(engine="trtllm", precision="fp8", concurrency=64.0)
    assert servers.engine_settings(many) == {"operation_launch_s": 0}
    assert servers.engine_settings(replace(many, concurrency=32.0)) == {}


def test_attention_dp_that_a_script_did_not_know_did_not_run() -> None:
    # minimaxm2.5_fp8_b200.sh of early April 2026 passes --tensor-parallel-size alone.
    listed = PoolPlan(hardware="b200", workers=1, tp=2, dp=2, ep=4)
    ran = run(model="minimax-m2.5", engine="vllm", precision="fp8", date="2026-04-03", decode=listed)
    served = as_served(replace(ran, gpus=4))
    assert (served.decode.tp, served.decode.dp, served.decode.ep) == (2, 1, 2)
    assert as_served(replace(ran, date="2026-04-22")).decode == listed
    alone = replace(served, decode=replace(served.decode), gpus=2)
    found = predict([served, alone], Catalog())
    assert found.tpot_mean_s[0] == found.tpot_mean_s[1]
    assert found.total_tok_per_s_per_gpu[0] == pytest.approx(found.total_tok_per_s_per_gpu[1] / 2)


def test_every_build_that_a_rule_names_has_its_constants() -> None:
    builds = {rule["settings"].get("build") for rule in servers._rules()} - {None, ""}
    assert builds == set(engine_file()["builds"])


def test_a_run_of_nobody_known_has_the_engine_s_defaults() -> None:
    assert server_settings(run(source="mine")) == {}
    found = loop_settings([run(source="mine"), run()], {"cold_start_s": 2.0}, 8192.0)
    assert found["held"].steps == pytest.approx([0.0, 5.0])
    assert found["step_tokens"] == pytest.approx([8192, 32768])
    assert np.all(found["cold_start_s"] == 0)


def split(**more: object) -> Run:
    """A disaggregated run: one prefill worker of dp 8, two decode workers of dp 8."""
    wide = {"hardware": "b200", "dp": 8, "ep": 8}
    given = {
        "mode": "disaggregated",
        "prefill": PoolPlan(workers=1, **wide),  # type: ignore[arg-type]
        "decode": PoolPlan(workers=2, **wide),  # type: ignore[arg-type]
    }
    return run(**(given | more))


def test_a_recipe_s_name_says_how_many_sequences_a_rank_decodes_and_what_it_drafts() -> None:
    # nvidia-master.yaml: ctx1_gen2_dep8_batch64_mtp2 ran with 1,214 in flight, ..._batch128_mtp0 with 2,192.
    ran = split(engine="trtllm", precision="fp4", spec="mtp", concurrency=1214.0)
    assert server_settings(ran)["rank_batch"] == 64
    served = as_served(ran)
    assert (served.drafted, served.decode.max_batch) == (2, 64 * 8)
    plain = as_served(replace(ran, spec="none", concurrency=2192.0))
    assert (plain.drafted, plain.decode.max_batch) == (0, 128 * 8)


def test_of_recipes_that_fit_the_one_with_the_run_s_requests_in_flight_is_meant() -> None:
    two = "ctx1_gen2_dep8_batch8_mtp0: 100\nctx1_gen2_dep8_batch32_mtp0: 400 500\n"
    recipes = list(_parsed(two + "ctx1_gen1_dep8_batch64_mtp0: 100"))
    for concurrency, batch in ((100.0, 8), (400.0, 32), (80.0, 8), (450.0, 32), (512.0, 32)):
        found = recipe_for(split(concurrency=concurrency), recipes)
        assert found is not None
        assert found.rank_batch == batch
    assert recipe_for(split(concurrency=9000.0), recipes) is None  # far more than its 2 * 8 * 32 places
    assert recipe_for(split(decode=PoolPlan(hardware="b200", workers=3, dp=8, ep=8)), recipes) is None
    assert recipe_for(run(), recipes) is None


def test_a_recipe_s_name_that_says_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="'low-latency' is no recipe's name"):
        list(_parsed("low-latency: 4"))
    assert all(recipes for _where, recipes in recipe_lists())


def test_sizes_that_did_nothing_are_those_that_ran_and_the_fingerprint_stays() -> None:
    # 1k1k-low-latency.sh of December 2025 passes data-parallel-size 1 whatever the table lists.
    four = PoolPlan(hardware="gb200", workers=4, dp=4, ep=4)
    listed = split(hardware="gb200", date="2025-12-10", decode=four, prefill=replace(four, workers=1))
    served = replace(as_served(listed), listed=sizes_of(listed.decode, listed.prefill))
    assert (served.decode.tp, served.decode.dp, served.decode.ep) == (4, 1, 1)
    assert served.prefill is not None
    assert (served.prefill.tp, served.prefill.dp) == (4, 1)
    assert served.fingerprint == listed.fingerprint
    later = as_served(replace(listed, date="2026-02-08"))
    assert later.decode == four


def test_all_ranks_may_share_the_experts_and_split_attention() -> None:
    # dsr1_fp8_h200_trt_slurm.sh of October 2025: attention-dp above 64 in flight.
    old = run(engine="trtllm", hardware="h200", date="2025-10-10", concurrency=128.0)
    served = as_served(old).decode
    assert (served.tp, served.dp, served.ep) == (1, 8, 8)
    assert as_served(replace(old, concurrency=8.0)).decode.dp == 1


def test_a_benchmark_of_five_rounds_opens_with_a_fifth() -> None:
    # bench.sh of ai-dynamo/dynamo sends five times the concurrency, sa-bench ten times.
    old = as_served(split(hardware="gb200", date="2025-12-10"))
    new = as_served(split(hardware="gb200", date="2026-02-08"))
    assert loop_settings([old, new], {"burst_share": 0.1}, 8192.0)["burst_share"] == pytest.approx([0.2, 0.1])
    assert loop_settings([new], {"burst_share": 0.1}, 8192.0)["burst_share"] == 0.1
    # glm5_fp8_h200.sh: num_prompts is CONC * 5; the other scripts of one pool send ten times as many.
    glm = run(model="glm-5", hardware="h200")
    assert server_settings(glm)["rounds"] == 5
    assert "rounds" not in server_settings(replace(glm, hardware="b200"))


def test_the_first_recipes_of_tensorrt_llm_over_a_rack_say_what_prefill_held() -> None:
    # nvidia-master.yaml of December 2025: PREFILL_MAX_NUM_TOKENS=4608 at 1k, 8448 at 8k.
    first = split(engine="trtllm", hardware="gb200", precision="fp4", date="2025-12-10")
    assert server_settings(first)["step_tokens"] == 4608
    assert server_settings(replace(first, isl=8192.0))["step_tokens"] == 8448
    assert server_settings(replace(first, date="2026-02-10")).get("step_tokens") not in (4608, 8448)


def test_tensorrt_llm_s_recipes_send_fp4_back_from_experts() -> None:
    # Four bits and an FP8 scale for sixteen of them: 0.5 + 1/16 bytes.
    assert engine_settings(split(engine="trtllm", precision="fp4"))["combine_bytes"] == 0.5625
    assert "combine_bytes" not in engine_settings(split(engine="trtllm", precision="fp8"))


def test_every_rule_names_its_script_and_fields_of_a_run() -> None:
    for rule in servers._rules():
        assert rule["script"]
        for name in [*rule["where"], *rule.get("at_least", {}), *rule.get("below", {})]:
            assert servers._value(run(), name) is not None


def test_answers_of_one_length_come_in_convoys_of_what_a_step_holds() -> None:
    assert "convoy_prompts" not in loop_settings([run()], {}, 8192.0)
    even = [run(source="mine", length_spread=0.0)]
    assert loop_settings(even, {}, 8192.0)["convoy_prompts"] == pytest.approx([8.0])
    assert loop_settings(even, {"convoy_prompts": 1.5}, 8192.0)["convoy_prompts"] == 1.5


def test_a_server_with_one_graph_pads_its_steps() -> None:
    # gb200-fp8.sh of ai-dynamo/dynamo: --cuda-graph-bs 768, and many sizes in the scripts after it.
    wide = PoolPlan(hardware="gb200", workers=1, dp=24, ep=24)
    old = split(hardware="gb200", date="2025-12-10", isl=8192.0, decode=wide)
    assert server_settings(old)["padded_batch"] == 768
    assert "padded_batch" not in server_settings(replace(old, date="2025-12-19"))
    assert "padded_batch" not in server_settings(replace(old, isl=1024.0))


def test_a_setting_may_be_of_one_role() -> None:
    # gb200-fp4/1k1k/mid-curve.yaml: DeepEP and SGLANG_MOE_NVFP4_DISPATCH decode, prefill has neither.
    wide = PoolPlan(hardware="gb200", workers=1, dp=32, ep=32)
    ran = split(hardware="gb200", precision="fp4", decode=wide)
    assert engine_settings(ran) == {"fp4_dispatch_bytes": 0.5625}
    assert engine_settings(ran, "prefill") == {"gathers_tokens": 1}
    assert served_weights(ran) == {"query_up": "fp8-block", "attention_output": "nvfp4"}
    assert served_weights(run()) == {}


def test_prompts_wait_for_a_transport_by_their_tokens() -> None:
    # 21,000 tokens a second: prompts of 8,192, on average 7,373, take 0.35 s each.
    wide = PoolPlan(hardware="gb200", workers=1, dp=24, ep=24)
    slow = as_served(split(hardware="gb200", date="2025-12-10", isl=8192.0, decode=wide))
    assert loop_settings([slow], {}, 8192.0)["handover_s"] == pytest.approx([7372.8 / 21000])
    assert "handover_s" not in loop_settings([as_served(run())], {}, 8192.0)


def test_a_recipe_mends_sizes_that_the_table_lists_wrongly() -> None:
    # gb200, 8,192 in: ctx1_gen4_tep8_batch16_mtp0 ran with 12, 44 and 76 in flight, and no recipe has ranks.
    ranks = PoolPlan(hardware="gb200", workers=4, dp=8, ep=8)
    ran = split(
        engine="trtllm", hardware="gb200", precision="fp4", isl=8192.0, concurrency=76.0, decode=ranks
    )
    ran = replace(ran, prefill=PoolPlan(hardware="gb200", workers=1, dp=4, ep=4))
    served = as_served(ran)
    assert (served.decode.tp, served.decode.dp, served.decode.max_batch) == (8, 1, 16)
    assert as_served(replace(ran, concurrency=77.0)).decode == ranks


def test_a_run_listed_by_all_its_accelerators_is_taken_apart() -> None:
    # 36 of them: ctx1_gen4_tep8 with 4 to 564 in flight, ctx1_gen1_dep32 with 1,075; ctx is 4 of them.
    both = PoolPlan(hardware="gb200", workers=1, tp=36)
    ran = split(engine="trtllm", hardware="gb200", precision="fp4", concurrency=256.0, gpus=72)
    served = as_served(replace(ran, prefill=both, decode=both))
    assert (served.decode.workers, served.decode.tp, served.decode.ep) == (4, 8, 8)
    assert (served.prefill.workers, served.prefill.tp, served.gpus) == (1, 4, 36)  # type: ignore[union-attr]
    wide = as_served(replace(ran, prefill=both, decode=both, concurrency=1075.0)).decode
    assert (wide.workers, wide.dp, wide.ep) == (1, 32, 32)


def test_vllm_starts_prompts_one_operation_after_the_other_where_its_graphs_are_for_decodes() -> None:
    # 70b_fp8_b200_docker.sh: FULL_DECODE_ONLY; 70b_fp8_h200_slurm.sh: vLLM's default, piecewise graphs.
    blackwell = run(engine="vllm", model="llama-3.1-70b")
    assert server_settings(blackwell)["build"] == "vllm-decode-graphs"
    assert "build" not in server_settings(replace(blackwell, hardware="h200"))
    plain = engine_constants("vllm")
    assert plain.operation_launch_s == 0.0
    built = as_built(plain, "vllm-decode-graphs")
    assert built == replace(plain, operation_launch_s=engine_constants("sglang").operation_launch_s)


def test_fp8_products_of_sglang_on_blackwell_have_a_back_end_of_their_own() -> None:
    # dsr1_fp8_b200.sh and qwen3.5_fp8_b200.sh say SGL_ENABLE_JIT_DEEPGEMM=false; dsr1_fp8_h200.sh does not.
    for model, hardware, precision, build in (
        ("deepseek-r1", "b200", "fp8", "sglang-fp8-blackwell"),
        ("qwen3.5-397b-a17b", "b300", "fp8", "sglang-fp8-blackwell"),
        ("deepseek-r1", "b200", "fp4", None),
        ("deepseek-r1", "h200", "fp8", None),
    ):
        found = server_settings(run(engine="sglang", model=model, hardware=hardware, precision=precision))
        assert found.get("build") == build


def test_builds_that_a_script_or_the_log_of_changes_names_are_held_to_their_runs() -> None:
    # perf-changelog: B200 left SGLang 0.5.5 in December 2025; over a rack 1p_4d.sh ran without attention-dp.
    one = run(precision="fp4", date="2025-11-12")
    assert server_settings(one)["build"] == "sglang-0.5.5-blackwell"
    assert "build" not in server_settings(replace(one, date="2025-12-20"))
    rack = split(hardware="gb200", date="2025-12-10")
    assert server_settings(rack)["build"] == "sglang-0.5.5-blackwell"
    low = replace(rack, decode=PoolPlan(hardware="gb200", workers=4, dp=4, ep=4))
    assert server_settings(low)["build"] == "sglang-fp8-blackwell"


def test_drafts_of_sglang_on_hopper_are_planned_on_the_host() -> None:
    # recipes/h200 and recipes/h100 of NVIDIA/srt-slurm: attention-backend flashinfer where they draft.
    drafts = split(hardware="h200", spec="mtp")
    assert server_settings(drafts)["build"] == "sglang-flashinfer-drafts"
    assert "build" not in server_settings(replace(drafts, spec="none"))
    plain = engine_constants("sglang")
    assert as_built(plain, "sglang-flashinfer-drafts").kernel_overhead_share > plain.kernel_overhead_share


def test_a_limit_of_running_requests_limits_the_prompts_of_a_step() -> None:
    # amd_utils/models.yaml, prefill, dp: 24 running requests of 8 ranks; 16,384 tokens hold 17 prompts.
    eight = PoolPlan(hardware="mi355x", workers=1, tp=1, dp=8, ep=8)
    ran = run(hardware="mi355x", mode="disaggregated", date="2026-03-03", prefill=eight, decode=eight)
    assert loop_settings([ran], {}, 8192.0)["step_tokens"] == pytest.approx(3 * 1024 * 0.9)
    long = replace(ran, isl=8192.0)
    assert loop_settings([long], {}, 8192.0)["step_tokens"] == 16384
    assert engine_settings(ran, "decode")["expert_skew"] == 0.0
    tensor = replace(ran, prefill=replace(eight, tp=8, dp=1), decode=replace(eight, tp=8, dp=1))
    assert loop_settings([tensor], {}, 8192.0)["step_tokens"] == 262144
    assert "expert_skew" not in engine_settings(tensor, "decode")


def test_runs_beyond_the_search_space_of_plain_decoding_speculate() -> None:
    # nvidia-master.yaml: at tp 8, dsr1-fp8-b200-sglang ends at 64 and 4 in flight, -mtp at 512.
    for isl, concurrency, drafted in ((1024, 64, 0), (1024, 128, 2), (8192, 4, 0), (8192, 8, 2)):
        ran = run(engine_version="0.5.9", isl=float(isl), concurrency=float(concurrency))
        assert as_served(ran).drafted == drafted


def test_a_run_that_drains_publishes_less_than_its_loop() -> None:
    """Slots that serve ten requests each, of 0.8 to 1 s, until none is left: half a round is lost at most."""
    draw, slots, rounds = random.Random(3), 64, 10
    ends = [draw.uniform(0.8, 1.0) for _ in range(slots)]
    heapq.heapify(ends)
    busy = sum(ends)
    for _ in range(slots * (rounds - 1)):
        length = draw.uniform(0.8, 1.0)
        heapq.heapreplace(ends, ends[0] + length)
        busy += length
    simulated = busy / slots / max(ends)
    ran = as_served(run(concurrency=float(slots), total_tok_per_s_per_gpu=100.0))
    bench = {"burst_share": 1.0 / rounds, "drain_rounds": 0.5}
    assert float(published_share([ran], bench)[0]) == pytest.approx(simulated, abs=0.015)
    assert published_share([replace(ran, total_tok_per_s_per_gpu=NAN)], bench) == pytest.approx([1.0])
    assert published_share([replace(ran, concurrency=1.0)], bench) == pytest.approx([1.0])
