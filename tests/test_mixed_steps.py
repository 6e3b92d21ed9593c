"""A step is never cheaper for a prompt that joins it: what colocated capacity rests on."""

from __future__ import annotations

import numpy as np
import pytest

from pdplan.compose import build_setting
from pdplan.layout import Layout, decode_load, mixed_load, prefill_load
from pdplan.plan import Serving
from pdplan.step import step_time
from tests.helpers import world

CASES = [
    ("deepseek-r1", "fp8", "h200"),
    ("deepseek-r1", "fp4", "gb200"),
    ("qwen3-235b-a22b", "fp8", "h100"),
    ("qwen3.5-397b-a17b", "fp8", "mi355x"),
    ("gpt-oss-120b", "fp4", "b200"),
    ("llama-3.1-70b", "bf16", "l40s"),
]
# (tp, pp, dp, ep): one worker of each kind, in and across scale-up domains
LAYOUTS = np.array(
    [(8, 1, 1, 1), (8, 1, 1, 8), (4, 4, 2, 1), (1, 1, 8, 8), (2, 1, 8, 16), (8, 1, 2, 16), (1, 2, 16, 16)],
    float,
)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize(("model", "precision", "hardware"), CASES)
def test_a_step_takes_longer_with_a_prompt_in_it(
    model: str, precision: str, hardware: str, engine: str
) -> None:
    given = world((model,), (hardware,))
    serving = Serving(model=model, precision=precision, kv_precision="bf16", engine=engine)
    setting = build_setting(given, serving, hardware)
    tp, pp, dp, ep = LAYOUTS.T[:, :, None, None]
    layout = Layout(tp=tp, pp=pp, dp=dp, ep=ep)
    running = np.geomspace(1, 20_000, 25)[None, :, None]
    prompt = np.array([16.0, 256.0, 8192.0])[None, None, :]
    decode = decode_load(running, 1024.0, 2048.0)
    alone = step_time(setting, layout, decode).total_s
    together = step_time(setting, layout, mixed_load(decode, prefill_load(1.0, prompt))).total_s
    assert np.all(together > alone * (1 - 1e-12))


@pytest.mark.parametrize(("model", "precision", "hardware"), CASES)
def test_a_step_takes_longer_with_more_sequences(model: str, precision: str, hardware: str) -> None:
    given = world((model,), (hardware,))
    serving = Serving(model=model, precision=precision, kv_precision="bf16", engine="vllm")
    setting = build_setting(given, serving, hardware)
    tp, pp, dp, ep = LAYOUTS.T[:, :, None]
    running = np.geomspace(1, 20_000, 60)[None, :]
    times = step_time(
        setting, Layout(tp=tp, pp=pp, dp=dp, ep=ep), decode_load(running, 1024.0, 2048.0)
    ).total_s
    assert np.all(np.diff(times, axis=1) > -1e-9 * times[:, 1:])
