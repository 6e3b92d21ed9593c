"""One forward step of one worker: kernels and collectives become seconds.

timing    the step: groups of kernels and collectives, prepared once for a layout, asked for many loads
kernels   products side by side, attention cores one by one
messages  collectives
stages    what each stage of a pipeline takes
overlap   what halves of a batch save whose exchanges run beside each other's kernels
terms     what comes out: seconds, and the lines that they are the sum of
setting   what goes in beside layout and load: model, formats, accelerator, engine
"""

from pdplan.step.kernels import PROMPT_MLA, in_fp8_blocks
from pdplan.step.setting import Setting, routing_of
from pdplan.step.stages import block_shares, engine_shares
from pdplan.step.terms import BINDING_TERMS, Overlapped, StepTime, Term
from pdplan.step.timing import step_time

__all__ = [
    "BINDING_TERMS",
    "PROMPT_MLA",
    "Overlapped",
    "Setting",
    "StepTime",
    "Term",
    "block_shares",
    "engine_shares",
    "in_fp8_blocks",
    "routing_of",
    "step_time",
]
