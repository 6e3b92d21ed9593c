"""Measure, on the GPU at hand, the kernels and the steps that the laws predict.

Needs PyTorch 2.6 or newer and a CUDA device; nothing of pdplan, so that it can be copied to a
bare machine.  Every time is the median over replays of a CUDA graph that holds many launches over
rotating operands (together larger than the L2 cache), divided by the launches: what an engine
that captures its steps sees.  Writes one CSV row a measurement:

    python benchmarks/device/measure.py -o benchmarks/device/h100.csv

`laws.py` beside this file puts the laws next to the rows.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import itertools
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch._dynamo
import torch.nn.functional as functional
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

CACHE_BYTES = 256e6  # rotate operands over several times the largest L2 (50-60 MB)
FP8 = torch.float8_e4m3fn
Call = Callable[[], Any]


@dataclass(kw_only=True)
class Rows:
    """The measurements so far; a row is what was run and its time."""

    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, op: str, time_s: float, **what: Any) -> None:
        """Keep a measurement [s] and show it."""
        self.rows.append({"op": op, **what, "time_s": f"{time_s:.4e}"})
        print(op, what, f"{time_s * 1e6:.2f} us", file=sys.stderr, flush=True)

    def write(self, path: str, device: str) -> None:
        """Write all rows as CSV, the device, date and library in each."""
        stamp = {
            "device": device,
            "date": datetime.date.today().isoformat(),
            "torch": torch.__version__,
        }
        columns = ["device", "date", "torch", "op", "dtype", "m", "n", "k", "heads", "kv_heads"]
        columns += ["head_dim", "batch", "tokens", "context", "model", "layers", "time_s"]
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows({**stamp, **row} for row in self.rows)


def replay_time_s(calls: list[Call], *, replays: int = 7) -> float:
    """Median time of one call [s] when `calls` are captured in a graph and replayed."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for call in calls:
            call()
        stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for call in calls:
                call()
        graph.replay()
        times = []
        for _ in range(replays):
            start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            start.record()
            graph.replay()
            stop.record()
            stop.synchronize()
            times.append(start.elapsed_time(stop) * 1e-3 / len(calls))
    del graph
    return statistics.median(times)


def copies(bytes_each: float, *, least: int = 2, most: int = 64) -> int:
    """How many operand sets keep a rotation out of the cache."""
    return int(min(max(CACHE_BYTES / max(bytes_each, 1.0) + 1, least), most))


def random(*shape: int) -> Tensor:
    """Random BF16 operands: zeros run faster than real data."""
    return torch.randn(*shape, device="cuda", dtype=torch.bfloat16)


# (n, k) of the four projections of a layer, and of the LM head, by model and tensor-parallel size
GEMM_SHAPES = {
    "llama-3.1-70b tp4": [(2560, 8192), (8192, 2048), (14336, 8192), (8192, 7168), (32064, 8192)],
    "llama-3.1-8b tp1": [(6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336)],
    "llama-3.1-70b tp8": [(1280, 8192), (8192, 1024), (7168, 8192), (8192, 3584)],
}
TOKENS = [1, 4, 16, 64, 128, 256, 547, 1024, 2048, 4096, 8192]


def multiply(x: Tensor, weight: Tensor) -> Tensor:
    """x [m, k] times weight^T [n, k], BF16 out; FP8 with one scale a tensor, already applied."""
    if weight.dtype == FP8:
        one = torch.ones((), device="cuda")
        return torch._scaled_mm(
            x, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    return functional.linear(x, weight)


def gemm(rows: Rows) -> None:
    """The products of a layer over the rows of a step, BF16 and FP8 (operands quantised before)."""
    for n, k in sorted({shape for group in GEMM_SHAPES.values() for shape in group}):
        wide = [random(n, k) for _ in range(copies(2.0 * n * k, most=32))]
        for name, weights in (("bf16", wide), ("fp8", [w.to(FP8) for w in wide])):
            for m in TOKENS:
                x = random(m, k).to(weights[0].dtype)
                calls = [partial(multiply, x, weights[i % len(weights)]) for i in range(max(len(weights), 8))]
                rows.add("gemm", replay_time_s(calls), dtype=name, m=m, n=n, k=k)
        del wide, weights
        torch.cuda.empty_cache()


def attend(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    """Grouped-query attention [batch, heads, tokens, head_dim] by the faster kernel for the phase:
    cuDNN's for a prompt, FlashAttention 2, which splits the context, for decode."""
    with sdpa_kernel([SDPBackend.CUDNN_ATTENTION if causal else SDPBackend.FLASH_ATTENTION]):
        return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)


HEADS = [(32, 8), (16, 2), (8, 1)]  # query and key heads that a rank holds
HEAD_DIM = 128


def attention(rows: Rows) -> None:
    """Prefill of one prompt and decode of a batch over its context, BF16."""
    for heads, kv_heads in HEADS:
        about = {"dtype": "bf16", "heads": heads, "kv_heads": kv_heads, "head_dim": HEAD_DIM}
        for tokens in (256, 547, 1024, 2048, 4096, 8192, 16384):
            q = random(1, heads, tokens, HEAD_DIM)
            k, v = random(1, kv_heads, tokens, HEAD_DIM), random(1, kv_heads, tokens, HEAD_DIM)
            time = replay_time_s([partial(attend, q, k, v, causal=True)] * 8)
            rows.add("prefill-cudnn", time, batch=1, tokens=tokens, context=tokens, **about)
        for batch, context in itertools.product((1, 8, 32, 128), (1024, 4096, 16384)):
            bytes_each = 4.0 * batch * kv_heads * context * HEAD_DIM
            calls = [
                partial(
                    attend,
                    random(batch, heads, 1, HEAD_DIM),
                    random(batch, kv_heads, context, HEAD_DIM),
                    random(batch, kv_heads, context, HEAD_DIM),
                    causal=False,
                )
                for _ in range(copies(bytes_each))
            ]
            time = replay_time_s(calls * -(-16 // len(calls)))
            rows.add("decode-fa2", time, batch=batch, tokens=1, context=context, **about)
            del calls
            torch.cuda.empty_cache()


@dataclass(kw_only=True)
class Shape:
    """A dense decoder as one tensor-parallel rank sees it (collectives left out)."""

    name: str
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    vocabulary: int
    layers: int
    measured_layers: int  # fewer than layers where memory is short; times are scaled by layers run

    def gemms(self) -> Iterator[tuple[int, int]]:
        """(n, k) of the projections of a layer."""
        yield (self.heads + 2 * self.kv_heads) * self.head_dim, self.hidden
        yield self.hidden, self.heads * self.head_dim
        yield 2 * self.inner, self.hidden
        yield self.hidden, self.inner


SHAPES = [
    Shape(
        name="llama-3.1-8b tp1", hidden=4096, heads=32, kv_heads=8, head_dim=128, inner=14336,
        vocabulary=128256, layers=32, measured_layers=32,
    ),
    Shape(
        name="llama-3.1-70b tp4", hidden=8192, heads=16, kv_heads=2, head_dim=128, inner=7168,
        vocabulary=32064, layers=80, measured_layers=40,
    ),
]  # fmt: skip


class Decoder:
    """Random weights in a Llama layer's shape; norms, rotary and activation fused by the compiler."""

    def __init__(self, shape: Shape, narrow: bool) -> None:
        self.shape, self.narrow = shape, narrow
        self.weights = [[self._weight(n, k) for n, k in shape.gemms()] for _ in range(shape.measured_layers)]
        self.head = torch.randn(shape.vocabulary, shape.hidden, device="cuda", dtype=torch.bfloat16) * 0.02
        self.scale = torch.ones(shape.hidden, device="cuda", dtype=torch.bfloat16)
        self.norm = torch.compile(self._norm, dynamic=False)
        self.rotate = torch.compile(self._rotate, dynamic=False)
        self.activate = torch.compile(self._activate, dynamic=False)

    def _weight(self, n: int, k: int) -> Tensor:
        weight = torch.randn(n, k, device="cuda", dtype=torch.bfloat16) * 0.02
        return weight.to(FP8) if self.narrow else weight

    def _out(self, x: Tensor) -> Tensor:
        return x.to(FP8) if self.narrow else x

    def _norm(self, x: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        residual = residual + x
        wide = residual.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-5)
        return self._out(wide.to(torch.bfloat16) * self.scale), residual

    def _rotate(self, qkv: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape, tokens = self.shape, qkv.shape[0]
        parts = qkv.view(tokens, shape.heads + 2 * shape.kv_heads, shape.head_dim)
        turned, value = parts[:, : shape.heads + shape.kv_heads], parts[:, shape.heads + shape.kv_heads :]
        left, right = turned.float().chunk(2, dim=-1)
        turned = torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1).to(torch.bfloat16)
        return (
            turned[:, : shape.heads].contiguous(),
            turned[:, shape.heads :].contiguous(),
            value.contiguous(),
        )

    def _activate(self, both: Tensor) -> Tensor:
        gate, value = both.chunk(2, dim=-1)
        return self._out(functional.silu(gate) * value)

    def step(self, x: Tensor, cache: list[tuple[Tensor, Tensor]] | None, batch: int) -> Tensor:
        """One forward of all measured layers and the LM head of each sequence's last token."""
        shape, tokens = self.shape, x.shape[0]
        cos = torch.ones(tokens, 1, shape.head_dim // 2, device="cuda")
        sin = torch.zeros_like(cos)
        residual = torch.zeros_like(x)
        for index, (qkv, out, up, down) in enumerate(self.weights):
            normed, residual = self.norm(x, residual)
            q, k, v = self.rotate(multiply(normed, qkv), cos, sin)
            if cache is None:  # prefill: one prompt attends to itself
                q, k, v = (part.transpose(0, 1).unsqueeze(0) for part in (q, k, v))
                attended = attend(q, k, v, causal=True).squeeze(0).transpose(0, 1)
            else:  # decode: write the token's K and V, read the whole cache
                keys, values = cache[index % len(cache)]
                keys[:, :, -1], values[:, :, -1] = k, v
                attended = attend(q.unsqueeze(2), keys, values, causal=False).squeeze(2)
            attended = attended.reshape(tokens, -1)
            x = multiply(attended.to(FP8) if self.narrow else attended, out)
            normed, residual = self.norm(x, residual)
            x = multiply(self.activate(multiply(normed, up)), down)
        return functional.linear((x + residual)[-batch:], self.head).argmax(dim=-1)


def steps(rows: Rows) -> None:
    """Decode steps over (batch, context) and prefill steps over prompt lengths, as a graph."""
    for shape, narrow in itertools.product(SHAPES, (False, True)):
        decoder = Decoder(shape, narrow)
        about = {
            "dtype": "fp8" if narrow else "bf16",
            "model": shape.name,
            "layers": shape.measured_layers,
        }
        for batch, context in itertools.product((1, 8, 32, 64, 128, 256), (1024, 4096)):
            one_layer = 4.0 * batch * shape.kv_heads * context * shape.head_dim
            cached = batch, shape.kv_heads, context, shape.head_dim
            cache = [
                (random(*cached), random(*cached))
                for _ in range(min(copies(one_layer), shape.measured_layers))
            ]
            time = replay_time_s([partial(decoder.step, random(batch, shape.hidden), cache, batch)])
            rows.add("decode-step", time, batch=batch, tokens=1, context=context, **about)
            del cache
            torch.cuda.empty_cache()
        for tokens in (128, 256, 547, 1024, 2048, 4096, 8192):
            time = replay_time_s([partial(decoder.step, random(tokens, shape.hidden), None, 1)])
            rows.add("prefill-step", time, batch=1, tokens=tokens, context=tokens, **about)
        del decoder
        torch.cuda.empty_cache()


def copy(rows: Rows) -> None:
    """Device-to-device copy of 4 GB: the bandwidth that reads and writes together reach."""
    source = torch.randn(1_000_000_000, device="cuda")
    target = torch.empty_like(source)
    rows.add("copy-8GB-moved", replay_time_s([partial(target.copy_, source)] * 4), dtype="fp32")


PARTS = {"copy": copy, "gemm": gemm, "attention": attention, "steps": steps}


def main() -> None:
    """Run the parts asked for and write the CSV, what was measured before a failure included."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--output", required=True)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch._dynamo.config.recompile_limit = 1000  # one compilation a shape; eager beyond 8 otherwise
    rows, device = Rows(), torch.cuda.get_device_name()
    with torch.inference_mode():
        for name in arguments.parts or PARTS:
            try:
                PARTS[name](rows)
            except Exception as error:  # a missing kernel must not lose the other parts
                print(f"{name} stopped: {type(error).__name__}: {error}", file=sys.stderr)
            torch.cuda.empty_cache()
            rows.write(arguments.output, device)


if __name__ == "__main__":
    main()
