"""Number formats: how weights and cache are stored, and in which type products run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pdplan.architecture.counts import Part
from pdplan.architecture.model import BYTES_PER_ELEMENT, Checkpoint

# The kernels that a stored format runs in, best first: (unit it needs, law). A law's name is
# the arithmetic type, then how weights are stored where that makes other kernels of it: FP8
# in blocks quantises activations by blocks; "-w4" and "-w8" widen weights on the fly where
# the tensor units have no unit for them (Marlin and its kin). MXFP4 meets FP8 activations on
# accelerators that multiply FP4.
_LAWS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "bf16": (("bf16", "bf16"),),
    "fp8": (("fp8", "fp8"), ("bf16", "bf16-w8")),
    "fp8-block": (("fp8", "fp8-block"), ("bf16", "bf16-w8")),
    "int8": (("int8", "int8"), ("bf16", "bf16-w8")),
    "nvfp4": (("fp4", "fp4"), ("bf16", "bf16-w4")),
    "mxfp4": (("fp4", "fp8-w4"), ("bf16", "bf16-w4")),
    "int4": (("bf16", "bf16-w4"),),
    "int4-g32": (("bf16", "bf16-w4"),),
}


@dataclass(frozen=True, kw_only=True)
class Formats:
    """Storage of every part, of the KV cache, and the accelerator's arithmetic for each."""

    precision: str
    checkpoint: Checkpoint
    kv: str
    peaks: Mapping[str, float]
    """Dense peak [FLOP/s] by arithmetic type."""

    @property
    def kv_bytes(self) -> float:
        return BYTES_PER_ELEMENT[self.kv]

    def storage(self, part: Part) -> str:
        return str(self.checkpoint.storage(part))

    @property
    def of_draft(self) -> Formats:
        """The same for the layers that draft."""
        return replace(self, checkpoint=self.checkpoint.of_draft)

    def weight_bytes(self, part: Part) -> float:
        """Bytes a stored weight of `part` takes."""
        return BYTES_PER_ELEMENT[self.storage(part)]

    def arithmetic(self, part: Part) -> str:
        """The law of products with `part` on this accelerator: arithmetic type, then storage."""
        return gemm_law(self.storage(part), self.peaks)

    def attention_arithmetic(self) -> str:
        """An FP8 cache is multiplied in FP8 where there are units for it, else widened to 16 bit."""
        return "fp8" if self.kv == "fp8" and "fp8" in self.peaks else "bf16"


def gemm_law(storage: str, peaks: Mapping[str, float]) -> str:
    """Which kernels multiply weights stored as `storage`; its peak is that of the type before the dash.

    >>> gemm_law("nvfp4", {"bf16": 1.0, "fp8": 2.0})
    'bf16-w4'
    >>> gemm_law("fp8-block", {"bf16": 1.0, "fp8": 2.0})
    'fp8-block'
    """
    for unit, law in _LAWS[storage]:
        if unit in peaks:
            return law
    return "bf16"


def peak_type(law: str) -> str:
    """The arithmetic type whose peak a law is measured against.

    >>> peak_type("fp8-block")
    'fp8'
    """
    return law.partition("-")[0]
