"""From a model, a layout and a step's load to ops: counts of FLOP, bytes and messages per rank.

This is where architecture meets parallelism; there is no time here. Every count
is for the busiest rank, broadcasts over layouts and loads, and is for one layer;
`layers` says how often it happens in a step. What the layout alone decides (`Product`,
`Sending`) is apart from what a load makes of it (`Op`, `Message`): a search asks one layout
for many loads.
"""

from pdplan.ops.forward import forward
from pdplan.ops.kinds import Block, Family, Forward, Kernel, Message, Op, Product, Routing, Sending, Work
from pdplan.ops.products import shards

__all__ = [
    "Block",
    "Family",
    "Forward",
    "Kernel",
    "Message",
    "Op",
    "Product",
    "Routing",
    "Sending",
    "Work",
    "forward",
    "shards",
]
