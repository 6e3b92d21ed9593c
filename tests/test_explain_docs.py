"""docs/laws.md states the formulas of the docstrings."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from pdplan import memory
from pdplan.laws import attention, collectives, experts, kernel, kv_transfer, overlap, roofline, speculation
from pdplan.ops import products
from pdplan.serving import closed_loop, pools, queueing

evaluate = importlib.import_module("pdplan.evaluate")  # `pdplan.evaluate` is a function
PAGE = (Path(__file__).parents[1] / "docs" / "laws.md").read_text(encoding="utf-8")


def squeezed(text: str) -> str:
    return re.sub(r"[\s`*]+", "", text)


@pytest.mark.parametrize(
    ("module", "formula"),
    [
        (products, "FLOP = 2 · m · k · n"),
        (products, "k·n·w + traffic·m·(k + n)·a"),
        (attention, "Σ_{i=1..new} min(past + i, limit); without a limit new·past + new·(new+1)/2"),
        (attention, "FLOP = 2 · pairs · heads · (d_qk + d_v)"),
        (attention, "[(w² − a²)/2 + w·(b − w)] / (b − a)"),
        (attention, "sequences · entries · elements · bytes"),
        (experts, "E[touched] = E · (1 − (1 − k/E)^T)"),
        (experts, "E[touched] = E · (1 − (1 + T·((1 − k/E)^(−c²) − 1))^(−1/c²))"),
        (experts, "f = 1 + sqrt(2 ln(ranks) · ranks · (1/assignments + skew²/experts) · (1 − 1/ranks))"),
        (experts, "Y = min(X/r · (1 + sqrt(2 ln r · (1 − X/E) · r/X · (1 − 1/r))), ⌈E/r⌉)"),
        (experts, "S = ⌈(E + redundant)/r⌉ · r"),
        (experts, "m = 1 + c·(ln(1 + E/R) − 1)"),
        (experts, "f = f_pack · (1 + sqrt(2 ln(r) · r · (1/A + (d·c)²/E) · (1 − 1/r)))"),
        (experts, "t = w · sqrt(ln(ranks)/ln(16))"),
        (overlap, "t = max(K_a, X_c) + max(X_d, K_a) + max(K_e, X_d) + max(X_c, K_e)"),
        (speculation, "E = (1 − a^(k+1)) / (1 − a), and k + 1 at a = 1"),
        (kernel, "t = t0 + t_in + (t_c^p + t_m^p + t_d^p)^(1/p)"),
        (kernel, "t_c = (FLOP + score FLOP · scores) · filling / (η_c · peak),  t_d = depth · d"),
        (kernel, "t_m = (stored + traffic · activations) / (η_m · bandwidth)"),
        (kernel, "t_in = input traffic · input bytes / (η_m · bandwidth)"),
        (kernel, "max(rows + groups · tile/2, groups · tile) / rows"),
        (roofline, "Williams, Waterman, Patterson, CACM 52(4), 2009"),
        (collectives, "one-shot: α + c·(r−1)·S / bw_d"),
        (collectives, "two-shot: α + α_2·r + c·2(r−1)/r·S / bw_d"),
        (collectives, "ring:     α_r + 2(r−1)·h + min(2x, α_b + x),  x = c·(λ + 2(r−1)/r)·S / bw"),
        (collectives, "α_r + (r−1)·h + min(2x, α_b + x), x = c·(λ/2 + (r−1)/r)·S/bw"),
        (collectives, "bytes_out = T·k·(1 − 1/d)·b,  bytes_up = T·k·(i−1)/(i·d)·b"),
        (collectives, "bytes_out = T·(d−1)/d·g·(1 − (1−1/g)^k)·b,  bytes_up = T·(i−1)/i·r·(1 − (1−1/r)^k)·b"),
        (kv_transfer, "t = latency + layers · layer latency + bytes / (links · goodput)"),
        (kv_transfer, "t_exposed = max(t/L, t − t_prefill·(L−1)/L)"),
        (kv_transfer, "g = bw·η·(1 − p) / (1 − p + p·W)"),
        (kv_transfer, "g = min(bw·η, packet/RTT · sqrt(3/2) / sqrt(p))"),
        (memory, "W = Σ_layers shard(matrices) + ⌈(E + R)/ep⌉ · expert/expert_tp + (embedding + head)/tp"),
        (
            memory,
            "Σ_layers min(context, window)/compression · elements/min(tp, cache shards) · bytes",
        ),
        (memory, "tokens · (4 · hidden + 3 · MLP width/tp) · 2 bytes"),
        (pools, "n = ceil(b·new/max step tokens)"),
        (pools, "running = rate/workers · OSL · TPOT(running)"),
        (pools, "TPOT = t_decode/E + (running/OSL)/(dp·pp) · t_extra"),
        (pools, "t_extra = n/k · [t_step(decode + k chunks) − t_step(decode)]"),
        (queueing, "C = B / (1 − ρ(1 − B))"),
        (queueing, "W = C(c, λS)/(c/S − λ) · v"),
        (queueing, "v = (c_a² − 1)/2 + c_s² + (1 − c_s²)·g/2 for c_s ≤ 1, (c_a² + c_s²)/2 above"),
        (queueing, "g = 1 + (1 − ρ)(c − 1)(√(4 + 5c) − 2)/(16ρc), at most 2"),
        (closed_loop, "R = S + S_q/c·Q·(N−1)/N"),
        (
            evaluate,
            "TTFT = request handling + wait for prefill + prefill + exposed KV transfer + hand-over"
            " + first decode step",
        ),
    ],
)
def test_the_page_has_the_formula_of_the_code(module: object, formula: str) -> None:
    source = Path(str(module.__file__)).read_text(encoding="utf-8")  # type: ignore[attr-defined]
    assert squeezed(formula) in squeezed(PAGE), "not in docs/laws.md"
    assert squeezed(formula) in squeezed(source), f"not in {module.__name__}"  # type: ignore[attr-defined]


def test_every_law_is_on_the_page() -> None:
    for path in (Path(roofline.__file__)).parent.glob("*.py"):
        if path.name != "__init__.py":
            assert f"laws/{path.name}" in PAGE
