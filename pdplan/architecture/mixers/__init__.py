"""Token mixers: every kind of attention, linear attention and SSM block.

Each kind is data as a config.json states it and answers four questions:

    matrices(hidden)            the GEMMs of a token
    vector_parameters(hidden)   norms, biases, convolutions and other small weights
    cores()                     work that grows with context; empty for linear kinds
    state()                     what stays per sequence whatever its length, or None

A layer can have more than one core: DeepSeek V4 reads a window and a compressed
past in one softmax.
"""

from pdplan.architecture.mixers.compressed_sparse import CompressedSparse
from pdplan.architecture.mixers.gated_linear import GatedLinear
from pdplan.architecture.mixers.grouped_query import GroupedQuery, SparseBlocks
from pdplan.architecture.mixers.latent import IndexerSpec, Latent
from pdplan.architecture.mixers.state_space import StateSpace

Mixer = GroupedQuery | Latent | CompressedSparse | GatedLinear | StateSpace

__all__ = [
    "CompressedSparse",
    "GatedLinear",
    "GroupedQuery",
    "IndexerSpec",
    "Latent",
    "Mixer",
    "SparseBlocks",
    "StateSpace",
]
