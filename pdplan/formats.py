"""Number formats: how weights and cache are stored, and in which type products run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pdplan.architecture.counts import Part
from pdplan.architecture.model import BYTES_PER_ELEMENT, Checkpoint

# The arithmetic a stored format runs in, best first. Where the tensor units have
# no unit for it, weights are widened on the fly and the product runs in the next
# type (weight-only quantisation, e.g. Marlin). MXFP4 weights meet FP8 activations.
_ARITHMETIC: Mapping[str, tuple[str, ...]] = {
    "bf16": ("bf16",),
    "fp8": ("fp8", "bf16"),
    "int8": ("int8", "fp8", "bf16"),
    "nvfp4": ("fp4", "bf16"),
    "mxfp4": ("fp4", "bf16"),
    "int4": ("bf16",),
    "int4-g32": ("bf16",),
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
        return str(getattr(self.checkpoint, part))

    def weight_bytes(self, part: Part) -> float:
        """Bytes a stored weight of `part` takes."""
        return BYTES_PER_ELEMENT[self.storage(part)]

    def arithmetic(self, part: Part) -> str:
        """The type that products with `part` run in on this accelerator."""
        return arithmetic_type(self.storage(part), self.peaks)

    def attention_arithmetic(self) -> str:
        """Scores run in 16 bit: an FP8 cache saves bytes, engines widen it for the product."""
        return "bf16"


def arithmetic_type(storage: str, peaks: Mapping[str, float]) -> str:
    """The arithmetic type for weights stored as `storage`.

    >>> arithmetic_type("nvfp4", {"bf16": 1.0, "fp8": 2.0})
    'bf16'
    """
    for dtype in _ARITHMETIC[storage]:
        if dtype in peaks:
            return dtype
    return "bf16"
