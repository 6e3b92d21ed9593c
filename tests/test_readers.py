"""Result files, field by field as their tools write them; each fixture says where its format is defined."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from pdplan.catalog.store import Catalog
from pdplan.errors import InputError
from pdplan.inputs import given
from pdplan.inputs.own_runs import OwnRuns, read_own_runs
from pdplan.measured.predict import predict
from pdplan.measured.run import Run

FACTS = {"hardware": "h100", "tp": 4, "engine": "vllm", "precision": "fp8"}

# vllm/benchmarks/serve.py, main_async and benchmark (vLLM 0.11 to 0.20): without --save-detailed.
VLLM: dict[str, Any] = {
    "date": "20260301-120000", "endpoint_type": "vllm", "backend": "vllm", "label": None,
    "model_id": "meta-llama/Llama-3.1-70B-Instruct", "tokenizer_id": "meta-llama/Llama-3.1-70B-Instruct",
    "num_prompts": 640, "request_rate": "inf", "burstiness": 1.0, "max_concurrency": 64,
    "duration": 214.0, "completed": 640, "failed": 0, "total_input_tokens": 655360,
    "total_output_tokens": 645120, "request_throughput": 2.99, "request_goodput": None,
    "output_throughput": 3014.6, "total_token_throughput": 6077.0, "latencies": [20.1], "queue_times": [0.0],
    "max_output_tokens_per_s": 4000.0, "max_concurrent_requests": 64, "rtfx": 0.0,
    "mean_ttft_ms": 312.5, "median_ttft_ms": 250.0, "std_ttft_ms": 90.0, "p99_ttft_ms": 800.0,
    "mean_tpot_ms": 19.6, "median_tpot_ms": 19.7, "std_tpot_ms": 0.5, "p99_tpot_ms": 20.5,
    "mean_itl_ms": 19.6, "median_itl_ms": 19.0, "std_itl_ms": 6.0, "p99_itl_ms": 60.0,
}  # fmt: skip

# python/sglang/bench_serving.py, benchmark(): the result dict of --output-file, one a line.
SGLANG: dict[str, Any] = {
    "tag": None, "backend": "sglang", "dataset_name": "random", "request_rate": 4.0, "max_concurrency": None,
    "sharegpt_output_len": None, "random_input_len": 1024, "random_output_len": 512,
    "random_range_ratio": 1.0,
    "server_info": {"model_path": "deepseek-ai/DeepSeek-R1", "tp_size": 8, "dp_size": 8, "ep_size": 8,
                    "enable_dp_attention": True, "version": "0.5.6"},
    "duration": 262.0, "completed": 1000, "total_input_tokens": 1024000, "total_input_text_tokens": 1024000,
    "total_input_vision_tokens": 0, "total_output_tokens": 512000, "total_output_tokens_retokenized": 511800,
    "request_throughput": 3.82, "input_throughput": 3908.4, "output_throughput": 1954.2,
    "total_throughput": 5862.6, "mean_e2e_latency_ms": 12500.0, "median_e2e_latency_ms": 12400.0,
    "std_e2e_latency_ms": 300.0, "p99_e2e_latency_ms": 14000.0, "mean_ttft_ms": 260.0,
    "median_ttft_ms": 240.0, "std_ttft_ms": 60.0, "p99_ttft_ms": 500.0, "mean_tpot_ms": 24.0,
    "median_tpot_ms": 23.9, "std_tpot_ms": 0.4, "p99_tpot_ms": 25.0, "mean_itl_ms": 24.1,
    "median_itl_ms": 22.0, "std_itl_ms": 9.0, "p95_itl_ms": 40.0, "p99_itl_ms": 70.0, "max_itl_ms": 300.0,
    "concurrency": 47.7, "accept_length": None,
}  # fmt: skip


def stat(value: float, unit: str = "ms") -> dict[str, Any]:
    return {"unit": unit, "avg": value, "p50": 0.9 * value, "p90": 1.1 * value, "p99": 1.2 * value,
            "min": value, "max": value, "std": 0.1}  # fmt: skip


# genai_perf/export_data/json_exporter.py of triton-inference-server/perf_analyzer, and
# aiperf/common/models/export_models.py of ai-dynamo/aiperf (JsonExportData): metrics, then input_config.
AIPERF: dict[str, Any] = {
    "schema_version": "1.0", "aiperf_version": "0.10.0",
    "request_throughput": {"unit": "requests/sec", "avg": 1.6},
    "request_latency": stat(20200.0), "request_count": {"unit": "requests", "avg": 160.0},
    "time_to_first_token": stat(200.0), "inter_token_latency": stat(19.5),
    "output_token_throughput": {"unit": "tokens/sec", "avg": 1638.4},
    "output_sequence_length": stat(1024.0, "tokens"), "input_sequence_length": stat(2048.0, "tokens"),
    "benchmark_duration": {"unit": "sec", "avg": 100.0},
    "input_config": {"endpoint": {"model_names": ["meta-llama/Llama-3.1-70B-Instruct"], "type": "chat",
                                  "streaming": True},
                     "loadgen": {"concurrency": 32, "request_count": 160}},
    "was_cancelled": False, "error_summary": [], "start_time": "2026-02-11T05:11:41.465270",
}  # fmt: skip
GENAI_PERF: dict[str, Any] = {
    k: v for k, v in AIPERF.items() if k not in ("schema_version", "aiperf_version", "input_config")
} | {
    "input_config": {
        "model": ["meta-llama/Llama-3.1-70B-Instruct"],
        "backend": "vllm",
        "perf_analyzer": {"stimulus": {"concurrency": 32}},
    }
}
# genai_perf/export_data/csv_exporter.py: thousands separators, then a table of single values.
GENAI_PERF_CSV = """\
Metric,avg,min,max,p99,p95,p90,p75,p50,p25
Time To First Token (ms),"1,146.50",9.00,"3,485.00",9.00,9.00,9.00,9.00,640.25,9.00
Time To Second Token (ms),26.00,9.00,99.00,9.00,9.00,9.00,9.00,25.00,9.00
Request Latency (ms),"6,406.00",9.00,"9,608.00",9.00,9.00,9.00,9.00,"6,400.00",9.00
Inter Token Latency (ms),30.25,9.00,35.00,9.00,9.00,9.00,9.00,30.00,9.00
Output Sequence Length (tokens),174.50,9.00,187.00,9.00,9.00,9.00,9.00,174.00,9.00
Input Sequence Length (tokens),"3,000.25",9.00,"3,001.00",9.00,9.00,9.00,9.00,"3,000.00",9.00

Metric,Value
Output Token Throughput (tokens/sec),870.60
Request Throughput (requests/sec),4.99
Request Count (count),40.00
"""


def summary(mean: float, median: float | None = None) -> dict[str, Any]:
    one = {"mean": mean, "median": median or mean, "count": 100, "total_sum": mean * 100, "percentiles": {}}
    nothing = {"mean": 0.0, "median": 0.0, "count": 0, "total_sum": 0.0, "percentiles": {}}
    return {"successful": one, "errored": nothing, "incomplete": nothing}


def guidellm(strategy: dict[str, Any], old: bool = False) -> dict[str, Any]:
    """guidellm/benchmark/schemas (0.4 and later); `old`: guidellm/benchmark/benchmark.py of 0.2 and 0.3."""
    benchmark = {
        "type_": "generative_benchmark", "start_time": 1772366400.0, "duration": 150.0,
        ("args" if old else "config"): {
            "strategy": strategy, "backend": {"model": "meta-llama/Llama-3.1-70B-Instruct"},
        },
        "metrics": {
            "request_totals": {"successful": 600, "errored": 0, "incomplete": 0, "total": 600},
            "requests_per_second": summary(4.0), "request_concurrency": summary(55.0),
            "request_latency": summary(10.2), "prompt_token_count": summary(1000.0),
            "output_token_count": summary(500.0), "time_to_first_token_ms": summary(220.0, 200.0),
            "time_per_output_token_ms": summary(20.4), "inter_token_latency_ms": summary(20.0),
            "tokens_per_second": summary(6000.0),
        },
    }  # fmt: skip
    metadata = {"version": 1, "guidellm_version": "0.5.0", "python_version": "3.12", "platform": "Linux"}
    return {"metadata": metadata, "args": {}, "benchmarks": [benchmark]}


def guidellm_csv() -> str:
    """guidellm/benchmark/outputs/csv.py (0.4 and later): three rows of headers."""
    columns = [
        ("Run Info", "Run ID", "", "x"), ("Run Info", "Run Index", "", "1"),
        ("Run Info", "Profile", "", json.dumps({"type_": "concurrent", "streams": [8, 48]})),
        ("Run Info", "Backend", "", json.dumps({"model": "meta-llama/Llama-3.1-70B-Instruct"})),
        ("Benchmark", "Type", "", "generative_benchmark"), ("Benchmark", "Strategy", "", "concurrent"),
        ("Timings", "Start Time", "", "2026-03-01 12:00:00"), ("Timings", "Duration", "Sec", "150.0"),
        ("Request Counts", "Successful", "", "600"), ("Request Counts", "Total", "", "600"),
        ("Request Latency", "Successful Sec", "Mean", "10.2"),
        ("Time to First Token", "Successful ms", "Mean", "220.0"),
        ("Time to First Token", "Successful ms", "Median", "200.0"),
        ("Time to First Token", "Incomplete ms", "Mean", "999.0"),
        ("Inter Token Latency", "Successful ms", "Mean", "20.0"),
        ("Server Throughput", "Successful Requests/Sec", "Mean", "4.0"),
        ("Server Throughput", "Successful Concurrency", "Mean", "47.0"),
        ("Token Metrics", "Successful Input Tokens", "Mean", "1000.0"),
        ("Token Metrics", "Successful Output Tokens", "Mean", "500.0"),
        ("Token Throughput", "Successful Total Tokens/Sec", "Mean", "6000.0"),
    ]  # fmt: skip
    out = io.StringIO()
    csv.writer(out).writerows(zip(*columns, strict=True))
    return out.getvalue()


# utils/process_result.py of SemiAnalysisAI/InferenceX: one node, then several nodes.
INFERENCEX: dict[str, Any] = {
    "hw": "h200-cw", "conc": 64, "image": "lmsysorg/sglang:v0.5.6", "model": "deepseek-ai/DeepSeek-R1-0528",
    "infmax_model_prefix": "dsr1", "framework": "sglang", "precision": "fp8", "spec_decoding": "none",
    "disagg": False, "isl": 1024, "osl": 1024, "is_multinode": False, "tp": 8, "ep": 1,
    "dp_attention": "false", "tput_per_gpu": 600.0, "output_tput_per_gpu": 300.0, "input_tput_per_gpu": 300.0,
    "mean_ttft": 0.4, "median_ttft": 0.35, "std_ttft": 0.1, "p99_ttft": 0.9, "mean_tpot": 0.025,
    "mean_intvty": 40.0, "median_tpot": 0.0249, "median_intvty": 40.2, "p99_tpot": 0.03, "p99_intvty": 33.0,
}  # fmt: skip
INFERENCEX_DISAGGREGATED = {
    k: v for k, v in INFERENCEX.items() if k not in ("tp", "ep", "dp_attention", "hw", "framework")
} | {
    "hw": "gb200", "framework": "dynamo-trt", "spec_decoding": "mtp", "disagg": True, "is_multinode": True,
    "prefill_tp": 4, "prefill_ep": 4, "prefill_dp_attention": "true", "prefill_num_workers": 2,
    "decode_tp": 32, "decode_ep": 32, "decode_dp_attention": "true", "decode_num_workers": 1,
    "num_prefill_gpu": 8, "num_decode_gpu": 32,
}  # fmt: skip


def read(tmp_path: Path, text: str | dict[str, Any], name: str = "result.json", **facts: Any) -> OwnRuns:
    path = tmp_path / name
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return read_own_runs([str(path)], given(facts), Catalog())


def one(found: OwnRuns) -> Run:
    assert found.left_out == ()
    (run,) = found.runs
    return run


def latencies(run: Run) -> tuple[float, float, float]:
    return run.ttft_mean_s, run.ttft_median_s, run.tpot_mean_s


# ------------------------------------------------------------------------ every tool


def test_vllm(tmp_path: Path) -> None:
    run = one(read(tmp_path, VLLM, hardware="h100", tp=4, precision="fp8"))
    assert (run.model, run.engine, run.precision, run.date) == ("llama-3.1-70b", "vllm", "fp8", "2026-03-01")
    assert (run.isl, run.osl, run.concurrency, run.gpus) == (1024, 1008, 64, 4)
    assert latencies(run) == pytest.approx((0.3125, 0.25, 0.0196))
    assert run.total_tok_per_s_per_gpu == pytest.approx(6077.0 / 4)
    assert not run.open_loop


def test_vllm_at_a_rate_with_gamma_gaps(tmp_path: Path) -> None:
    slow = VLLM | {"request_rate": 2.0, "burstiness": 4.0, "max_concurrency": None, "duration": 340.0}
    run = one(read(tmp_path, slow, **FACTS))
    assert (run.rate, run.arrival_cv, run.open_loop) == (2.0, 0.5, True)
    assert math.isnan(run.concurrency)


def test_all_at_once_is_held_against_the_mean_number_in_flight(tmp_path: Path) -> None:
    """Little: 640 requests of 0.3125 + 1007·0.0196 = 20.05 s in 214 s; TTFT is the queue's, so unused."""
    run = one(read(tmp_path, VLLM | {"max_concurrency": None}, **FACTS))
    assert run.concurrency == pytest.approx(640 * 20.05 / 214, rel=1e-3)
    assert math.isnan(run.ttft_mean_s)
    assert math.isnan(run.ttft_median_s)


def test_a_rate_beyond_the_capacity_is_a_closed_loop_at_its_limit(tmp_path: Path) -> None:
    run = one(read(tmp_path, VLLM | {"request_rate": 50.0}, **FACTS))
    assert (run.concurrency, run.open_loop) == (64, False)


def test_sglang_lines_with_the_server_s_own_layout(tmp_path: Path) -> None:
    lines = json.dumps(SGLANG) + "\n" + json.dumps(SGLANG | {"request_rate": math.inf, "max_concurrency": 16})
    first, second = read(tmp_path, lines + "\n", "sglang.jsonl", hardware="h200").runs
    assert (first.model, first.engine, first.rate) == ("deepseek-r1", "sglang", 4.0)
    assert (first.decode.tp, first.decode.dp, first.decode.ep, first.gpus) == (1, 8, 8, 8)
    assert (first.isl, first.osl, first.tpot_mean_s) == (1024, 512, pytest.approx(0.024))
    assert (second.concurrency, second.open_loop) == (16, False)
    assert second.id.endswith("sglang.jsonl:2")


# datacrunch-research/h200-benchmarks, sglang/outputs/llama_405b_online_output.jsonl: SGLang of 2024, which
# wrote no mean of TTFT, TPOT or ITL. The second line's requests came faster than they were served.
SGLANG_2024 = """\
{"backend": "sglang", "dataset_name": "random", "request_rate": 1.0, "max_concurrency": null, \
"total_input_tokens": 152612, "total_output_tokens": 160347, "total_output_tokens_retokenized": 158699, \
"mean_e2e_latency_ms": 24370.785914754182, "median_e2e_latency_ms": 24871.693555032834, \
"median_ttft_ms": 218.80842198152095, "median_itl_ms": 38.78233698196709, "output_throughput": 504.955, \
"sharegpt_output_len": null, "random_input_len": 1024, "random_output_len": 1024, \
"random_range_ratio": 0.0, "duration": 317.54681650106795, "completed": 300}
{"backend": "sglang", "dataset_name": "random", "request_rate": 4.0, "max_concurrency": null, \
"total_input_tokens": 615860, "total_output_tokens": 607936, "total_output_tokens_retokenized": 602036, \
"mean_e2e_latency_ms": 110900.12428377464, "median_e2e_latency_ms": 107012.78415345587, \
"median_ttft_ms": 602.1358293946832, "median_itl_ms": 135.22850209847093, "output_throughput": 1598.643, \
"sharegpt_output_len": null, "random_input_len": 1024, "random_output_len": 1024, \
"random_range_ratio": 0.0, "duration": 380.2824916690588, "completed": 1200}
"""


def test_sglang_lines_without_means(tmp_path: Path) -> None:
    facts = {"model": "llama-3.1-405b", "hardware": "h200", "tp": 8, "precision": "fp8"}
    steady, crowded = read(tmp_path, SGLANG_2024, "sglang.jsonl", **facts).runs
    assert steady.rate == 1.0
    assert math.isnan(steady.ttft_mean_s)
    assert steady.ttft_median_s == pytest.approx(0.2188, rel=1e-3)
    # (24.371 s − 0.219 s) over 160,347 / 300 − 1 tokens
    assert steady.tpot_mean_s == pytest.approx(0.045272, rel=1e-4)
    assert steady.total_tok_per_s_per_gpu == pytest.approx((152612 + 160347) / 317.5468 / 8)
    # Little's law: 1,200 requests of 110.9 s within 380.28 s
    assert crowded.concurrency == pytest.approx(349.95, rel=1e-4)
    assert math.isnan(crowded.ttft_median_s)


def test_sglang_copies_without_attention_dp_are_workers(tmp_path: Path) -> None:
    server = {
        "model_path": "meta-llama/Llama-3.1-70B",
        "tp_size": 2,
        "dp_size": 4,
        "enable_dp_attention": False,
    }
    run = one(read(tmp_path, SGLANG | {"server_info": server}, hardware="h100", precision="fp8"))
    assert (run.decode.workers, run.decode.tp, run.decode.dp, run.gpus) == (4, 2, 1, 8)


@pytest.mark.parametrize(
    "data",
    [
        VLLM | {"completed": 600, "failed": 40},
        {k: v for k, v in VLLM.items() if k != "failed"} | {"completed": 600},
        AIPERF | {"error_request_count": {"unit": "requests", "avg": 40.0}},
    ],
    ids=["vllm", "vllm before it counted", "aiperf"],
)
def test_runs_whose_requests_failed_are_left_out(tmp_path: Path, data: dict[str, Any]) -> None:
    found = read(tmp_path, data, **FACTS)
    assert found.runs == ()
    assert "40 of" in found.left_out[0].reason
    assert "requests failed" in found.left_out[0].reason


def test_a_run_without_an_answer_is_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, VLLM | {"completed": 0, "failed": 640, "total_input_tokens": 0}, **FACTS)
    assert "640 of 640 requests failed" in found.left_out[0].reason


def test_a_limit_beyond_the_number_of_requests_is_none(tmp_path: Path) -> None:
    run = one(read(tmp_path, VLLM | {"max_concurrency": 4096}, **FACTS))
    # 640 requests of 0.3125 s + 0.0196 s · (645120/640 − 1) within 214 s
    assert run.concurrency == pytest.approx(640 * (0.3125 + 0.0196 * 1007) / 214)
    assert math.isnan(run.ttft_mean_s)


@pytest.mark.parametrize("data", [AIPERF, GENAI_PERF], ids=["aiperf", "genai-perf"])
def test_aiperf_and_genai_perf(tmp_path: Path, data: dict[str, Any]) -> None:
    run = one(read(tmp_path, data, **FACTS))
    assert (run.model, run.isl, run.osl, run.concurrency) == ("llama-3.1-70b", 2048, 1024, 32)
    assert latencies(run) == pytest.approx((0.2, 0.18, 0.0195))
    assert run.total_tok_per_s_per_gpu == pytest.approx(1.6 * 3072 / 4)
    assert run.date == "2026-02-11"


def test_aiperf_says_what_the_prefix_cache_held(tmp_path: Path) -> None:
    """Metric tags of aiperf/metrics/types/usage_metrics.py; without them, or with a flag, that counts."""
    cached = {"usage_prompt_tokens": stat(2000.0), "usage_prompt_cache_read_tokens": stat(1500.0)}
    assert one(read(tmp_path, AIPERF | cached, **FACTS)).prefix_reuse == 0.75
    only_read = {"usage_prompt_cache_read_tokens": stat(1024.0)}
    assert one(read(tmp_path, AIPERF | only_read, **FACTS)).prefix_reuse == 0.5
    assert one(read(tmp_path, AIPERF, **FACTS)).prefix_reuse == 0.0
    assert one(read(tmp_path, AIPERF | cached, prefix_reuse="30%", **FACTS)).prefix_reuse == 0.3


def test_prompts_in_the_prefix_cache_are_predicted_so(tmp_path: Path) -> None:
    cached = {"usage_prompt_cache_read_tokens": stat(1024.0)}
    runs = [one(read(tmp_path, data, **FACTS)) for data in (AIPERF, AIPERF | cached)]
    all_new, half = predict(runs, Catalog(environment="")).ttft_mean_s
    assert half < 0.95 * all_new


def test_genai_perf_csv_says_no_load(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not say the concurrency; give it, e.g. --concurrency 64"):
        read(tmp_path, GENAI_PERF_CSV, "profile_genai_perf.csv", model="llama-3.1-70b", **FACTS)
    found = read(tmp_path, GENAI_PERF_CSV, "p.csv", model="llama-3.1-70b", concurrency=32, **FACTS)
    run = one(found)
    assert (run.isl, run.osl, run.concurrency) == (3000.25, 174.5, 32)
    assert latencies(run) == pytest.approx((1.1465, 0.64025, 0.03025))


# anud18/qwen36-vllm-aiperf-benchmark, results/nvfp4/cf_llama31_chatbot/chatbot_flat/c1, most rows left out.
AIPERF_CSV = """\
Metric,avg,min,max,sum,p1,p5,p10,p25,p50,p75,p90,p95,p99,std
Input Sequence Length (tokens),608.80,40.00,1665.00,12176.00,42.09,50.45,51.90,94.00,462.00,1026.75,1346.00,1456.00,1623.20,514.59
Inter Token Latency (ms),68.72,65.88,71.97,1374.49,66.07,66.84,66.94,67.32,68.45,69.75,71.46,71.49,71.88,1.73
Output Sequence Length (tokens),298.50,73.00,641.00,5970.00,94.28,179.40,188.60,244.75,288.00,329.50,427.20,465.25,605.85,113.87
Request Latency (ms),31875.21,6019.84,45749.76,637504.11,7426.12,13051.22,17115.32,28221.02,34582.14,38416.02,43200.22,45414.89,45682.79,10433.27
Time to First Token (ms),11444.39,528.93,23980.27,228887.80,639.96,1084.06,1148.81,3255.86,13706.37,16524.87,17135.06,17537.52,22691.72,6822.04

Metric,Value
Benchmark Duration (sec),637.56
Overall Usage Prompt Cache Read % (%),63.83
Request Count,20.00
Request Throughput (requests/sec),0.03
Total Token Throughput (tokens/sec),28.46


Endpoint,GPU_Index,GPU_Name,GPU_UUID,Metric,avg,min,max,sum,p1,p5,p10,p25,p50,p75,p90,p95,p99,std
"""  # noqa: E501


def test_aiperf_csv_takes_no_rounded_rate(tmp_path: Path) -> None:
    run = one(read(tmp_path, AIPERF_CSV, "profile.csv", model="llama-3.1-8b", concurrency=1, **FACTS))
    assert (run.isl, run.osl) == (608.8, 298.5)
    assert latencies(run) == pytest.approx((11.44439, 13.70637, 0.06872))
    assert run.total_tok_per_s_per_gpu == pytest.approx(28.46 / 4)


@pytest.mark.parametrize("old", [False, True], ids=["0.4 and later", "0.2 and 0.3"])
def test_guidellm(tmp_path: Path, old: bool) -> None:
    run = one(read(tmp_path, guidellm({"type_": "concurrent", "streams": 48}, old), **FACTS))
    assert (run.model, run.isl, run.osl, run.concurrency) == ("llama-3.1-70b", 1000, 500, 48)
    assert latencies(run) == pytest.approx((0.22, 0.2, 0.020))
    assert run.date == "2026-03-01"


def test_guidellm_as_0_5_wrote_it(tmp_path: Path) -> None:
    """nirjhar17/guidellm-pd-disaggregation, reports/concurrent16-benchmarks.json: its keys, and means of the
    successful requests (TTFT: those of all less those of the incomplete)."""
    benchmark = {
        "type_": "generative_benchmark",
        "config": {
            "run_index": 0,
            "strategy": {"type_": "concurrent", "worker_count": 10, "max_concurrency": 16, "streams": 16,
                         "rampup_duration": 0.0},
            "profile": {"type_": "concurrent", "streams": [16], "strategy_types": ["concurrent"]},
            "backend": {"target": "http://a/my-first-model/qwen3-0-6b", "model": "Qwen/Qwen3-0.6B"},
        },
        "scheduler_state": {"start_time": 1771373832.6899602, "successful_requests": 259},
        "scheduler_metrics": {
            "start_time": 1771373832.6899602, "measure_start_time": 1771373832.6899602,
            "measure_end_time": 1771373892.6899602, "end_time": 1771373893.6619468,
        },
        "metrics": {
            "request_totals": {"successful": 259, "errored": 0, "incomplete": 15, "total": 274},
            "requests_per_second": summary(4.3), "request_concurrency": summary(15.591335459550223, 16.0),
            "request_latency": summary(3.615556672733263), "prompt_token_count": summary(264.0),
            "output_token_count": summary(128.0), "time_to_first_token_ms": summary(85.01, 75.0),
            "inter_token_latency_ms": summary(27.796552901218284), "tokens_per_second": summary(1668.567),
        },
    }  # fmt: skip
    data = {"metadata": {"version": 1, "guidellm_version": "0.5.0"}, "args": {}, "benchmarks": [benchmark]}
    facts = FACTS | {"model": "llama-3.1-8b", "tp": 1}
    run = one(read(tmp_path, data, **facts))
    assert (run.isl, run.osl, run.concurrency, run.date) == (264, 128, 16, "2026-02-18")
    assert run.tpot_mean_s == pytest.approx(0.0277966, rel=1e-5)
    benchmark["config"]["strategy"] = {"type_": "throughput", "max_concurrency": 512}  # type: ignore[index]
    assert one(read(tmp_path, data, **facts)).concurrency == pytest.approx(259 * 3.615556672733263 / 60)


@pytest.mark.parametrize(("kind", "cv"), [("constant", 0.0), ("poisson", 1.0)])
def test_guidellm_at_a_rate(tmp_path: Path, kind: str, cv: float) -> None:
    run = one(read(tmp_path, guidellm({"type_": kind, "rate": 4.0}), **FACTS))
    assert (run.rate, run.arrival_cv) == (4.0, cv)


def test_guidellm_yaml(tmp_path: Path) -> None:
    import yaml

    text = yaml.dump(guidellm({"type_": "synchronous"}))
    assert one(read(tmp_path, text, "benchmarks.yaml", **FACTS)).concurrency == 1


def test_guidellm_csv(tmp_path: Path) -> None:
    run = one(read(tmp_path, guidellm_csv(), "benchmarks.csv", **FACTS))
    assert (run.model, run.isl, run.osl, run.concurrency) == ("llama-3.1-70b", 1000, 500, 48)
    assert latencies(run) == pytest.approx((0.22, 0.2, 0.020))


def test_inferencex_says_everything(tmp_path: Path) -> None:
    run = one(read(tmp_path, INFERENCEX))
    assert (run.model, run.hardware, run.engine, run.precision) == ("deepseek-r1", "h200", "sglang", "fp8")
    assert (run.decode.tp, run.decode.dp, run.decode.ep, run.gpus) == (8, 1, 1, 8)
    assert (run.mean_isl, run.concurrency, run.tpot_mean_s) == (921.6, 64, 0.025)
    assert run.total_tok_per_s_per_gpu == pytest.approx(600.0)


def test_inferencex_over_two_pools(tmp_path: Path) -> None:
    run = one(read(tmp_path, json.dumps([INFERENCEX_DISAGGREGATED])))
    assert (run.mode, run.engine, run.spec, run.hardware) == ("disaggregated", "trtllm", "mtp", "gb200")
    assert run.prefill is not None
    assert (run.prefill.workers, run.prefill.tp, run.prefill.dp, run.prefill.ep) == (2, 1, 4, 4)
    assert (run.decode.workers, run.decode.dp, run.decode.ep, run.gpus) == (1, 32, 32, 40)


def test_inferencex_with_pipeline_stages_and_other_words(tmp_path: Path) -> None:
    """Later rows say `pp`, runners are named with their cluster; some count no workers."""
    run = one(read(tmp_path, INFERENCEX | {"hw": "cluster:h200-nv", "tp": 4, "pp": 2}))
    assert (run.hardware, run.decode.tp, run.decode.pp, run.gpus) == ("h200", 4, 2, 8)
    assert run.total_tok_per_s_per_gpu == pytest.approx(600.0)
    data = {k: v for k, v in INFERENCEX_DISAGGREGATED.items() if "num_workers" not in k}
    pools = one(read(tmp_path, data | {"num_prefill_gpu": 4}))
    assert pools.prefill is not None
    assert (pools.prefill.workers, pools.decode.workers, pools.gpus) == (1, 1, 36)


def test_inferencex_with_metrics_apart(tmp_path: Path) -> None:
    """As the rows of its web interface are: `hardware`, `spec_method`, times under `metrics`."""
    times = {k: v for k, v in INFERENCEX.items() if "tpot" in k or "ttft" in k or "tput" in k}
    row = {k: v for k, v in INFERENCEX.items() if k not in times and k not in ("hw", "spec_decoding")}
    row |= {"hardware": "h200", "spec_method": "none", "metrics": times, "date": "2026-03-02"}
    run = one(read(tmp_path, json.dumps([row])))
    assert (run.hardware, run.tpot_mean_s, run.date) == ("h200", 0.025, "2026-03-02")


# ------------------------------------------------------------------------ facts


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    run = one(read(tmp_path, INFERENCEX, hardware="h100", ep=8, model="deepseek-v3", isl=900, osl=900))
    assert (run.hardware, run.decode.ep, run.model, run.mean_isl) == ("h100", 8, "deepseek-v3", 900)


def test_a_prefill_pool_makes_it_disaggregated(tmp_path: Path) -> None:
    run = one(read(tmp_path, VLLM, prefill_workers=2, prefill_tp=2, **FACTS))
    assert (run.mode, run.gpus) == ("disaggregated", 8)


def test_missing_facts_are_told_at_once_each_with_its_flag(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, VLLM | {"backend": "openai"}, "a.json")
    said = [m.partition("does not say the ")[2].partition(";")[0] for m in caught.value.messages]
    assert said == ["hardware", "tp", "engine"]
    assert all("give it, e.g. --" in m for m in caught.value.messages)


def test_what_many_files_do_not_say_is_told_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.json").write_text(json.dumps(VLLM | {"label": name}))
    paths = [str(tmp_path / f"{name}.json") for name in ("a", "b", "c")]
    with pytest.raises(InputError) as caught:
        read_own_runs(paths, given({"tp": 4}), Catalog())
    (message,) = caught.value.messages
    assert "a.json and 2 more: vllm bench serve does not say the hardware" in message


def test_a_listing_tells_each_file_s_deployment(tmp_path: Path) -> None:
    for tp in (4, 8):
        (tmp_path / f"tp{tp}.json").write_text(json.dumps(VLLM | {"label": str(tp)}))
    listing = (
        "runs:\n  - {file: tp4.json, tp: 4}\n  - file: [tp8.json]\n    tp: 8\n    engine_version: 0.18.0\n"
    )
    found = read(tmp_path, listing, "runs.yaml", hardware="h100", precision="fp8")
    assert [run.decode.tp for run in found.runs] == [4, 8]
    assert found.runs[1].engine_version == "0.18.0"


def test_a_listing_takes_patterns(tmp_path: Path) -> None:
    for name in ("x1", "x2"):
        (tmp_path / f"{name}.json").write_text(json.dumps(VLLM | {"label": name}))
    found = read(tmp_path, "runs:\n  - {file: 'x*.json', tp: 4, hardware: h100}\n", "runs.yaml")
    assert len(found.runs) == 2
    assert [source.runs for source in found.sources] == [1, 1]


# ------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("text", "name", "facts", "expected"),
    [
        ("{}", "a.json", {}, r"a.json: no benchmark result is recognised in it; what is read: vllm bench"),
        ("[1, 2]", "a.json", {}, r"no benchmark result is recognised"),
        ("", "a.json", {}, r"a.json: the file is empty"),
        ("a,b\n1,2\n", "a.csv", {}, r"no benchmark result is recognised"),
        (json.dumps(VLLM)[:300], "a.json", FACTS, r"a.json:1:\d+: not valid JSON: .*; was the file cut off"),
        (json.dumps(SGLANG) + "\n{", "a.jsonl", FACTS, r"a.jsonl:2:2: not valid JSON"),
        (json.dumps(VLLM | {"model_id": "/data/weights"}), "a.json", FACTS,
         r"a.json: its model: unknown model '/data/weights'.*say which model of the catalog it is: --model"),
        (json.dumps(VLLM), "a.json", FACTS | {"hardware": "h20o"}, r"--hardware: unknown .*'h20'"),
        (json.dumps(VLLM), "a.json", FACTS | {"tp": "many"}, r"--tp: 'many' is not a number"),
        (json.dumps(VLLM), "a.json", FACTS | {"tp": 3}, r"--tp: 3 does not divide the 64 attention heads"),
        (json.dumps(VLLM), "a.json", FACTS | {"precision": "fp7"}, r"--precision: .*fp8"),
        (json.dumps(VLLM), "a.json", FACTS | {"mode": "colocted"}, r"--mode: .*colocated"),
        (json.dumps(VLLM), "a.json", FACTS | {"spec": "mpt"}, r"--spec: .*mtp"),
        (json.dumps(VLLM), "a.json", FACTS | {"rate": 3, "concurrency": 4}, r"either rate or concurrency"),
        ("runs:\n  - {fil: a.json}\n", "a.yaml", {}, r"a.yaml:2:6: unknown key 'fil'; did you mean 'file'"),
        ("runs:\n  - {file: none.json}\n", "a.yaml", {}, r"none.json: there is no such file"),
        ("runs:\n  - {file: 'q*.json'}\n", "a.yaml", {}, r"a.yaml:2:6: no file is called like 'q\*.json'"),
        ("runs: [3]\n", "a.yaml", {}, r"a.yaml:1:8: 'runs\[0\]' is 3; expected a mapping"),
        ("id,model,hardware\n", "a.csv", {"tp": 4}, r"a.csv: a table says itself what ran; leave --tp out"),
    ],
)  # fmt: skip
def test_bad_input(tmp_path: Path, text: str, name: str, facts: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        read(tmp_path, text, name, **facts)


def test_a_folder_stands_for_the_results_in_it(tmp_path: Path) -> None:
    for name in ("b.json", "a.jsonl", "notes.txt"):
        (tmp_path / name).write_text(json.dumps(VLLM | {"label": name}))
    found = read_own_runs([str(tmp_path)], given(FACTS), Catalog())
    assert [Path(source.file).name for source in found.sources] == ["a.jsonl", "b.json"]
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty: no file in this folder ends in .json, .jsonl, .csv"):
        read_own_runs([str(empty)], given(FACTS), Catalog())


def test_a_calibration_is_no_result(tmp_path: Path) -> None:
    text = "schema_version: 1\ncross_validation:\n  helped: true\n"
    with pytest.raises(InputError, match=r"mine.yaml: this is a calibration already; give the results"):
        read(tmp_path, text, "mine.yaml")


def test_results_as_the_tool_wrote_them() -> None:
    """vLLM 0.20.0 on an H100, benchmarks/device: closed loops, and one Poisson run at 6 requests/s."""
    folder = Path(__file__).parents[1] / "benchmarks" / "device" / "vllm-h100"
    facts = given({"hardware": "h100", "tp": 1, "engine": "vllm"})
    found = read_own_runs([str(folder)], facts, Catalog())
    assert [run.model for run in found.runs] == ["llama-3.1-8b"] * 6
    loads = {(run.isl, run.concurrency) for run in found.runs if not run.open_loop}
    assert loads == {(1024, 1), (1024, 8), (1024, 32), (1024, 64), (4096, 16)}
    (poisson,) = [run for run in found.runs if run.open_loop]
    assert (poisson.rate, poisson.isl, poisson.osl) == (6.0, 547, 248)
    assert poisson.ttft_mean_s == pytest.approx(0.045029, rel=1e-4)


def test_the_same_file_twice(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps(VLLM))
    with pytest.raises(InputError, match=r"b.json: the same content as .*a.json; give it once"):
        read_own_runs([str(tmp_path / n) for n in ("a.json", "b.json")], given(FACTS), Catalog())


def test_a_flag_speaks_once_for_all_files(tmp_path: Path) -> None:
    for n in (1, 2):
        (tmp_path / f"{n}.json").write_text(json.dumps(VLLM | {"duration": 200.0 + n}))
    with pytest.raises(InputError, match=r"^--hardware: unknown accelerator 'h1000'"):
        read_own_runs([str(tmp_path)], given(FACTS | {"hardware": "h1000"}), Catalog())


def test_no_serving_result_is_left_out_with_a_reason(tmp_path: Path) -> None:
    found = read(tmp_path, VLLM | {"mean_tpot_ms": 0.0, "median_tpot_ms": 0.0}, **FACTS)
    assert found.runs == ()
    assert "no serving result" in found.left_out[0].reason
