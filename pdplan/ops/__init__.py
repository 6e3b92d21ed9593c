"""From a model, a layout and a step's load to ops: counts of FLOP, bytes and messages per rank.

This is where architecture meets parallelism; there is no time here. Every count
is for the busiest rank, broadcasts over layouts and loads, and is for one layer;
`layers` says how often it happens in a step.
"""

from pdplan.ops.forward import forward_ops
from pdplan.ops.kinds import Block, Family, Message, Op, Routing
from pdplan.ops.products import shards

__all__ = ["Block", "Family", "Message", "Op", "Routing", "forward_ops", "shards"]
