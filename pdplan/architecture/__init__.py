"""What a model is made of, as counts: matrices, attention cores, caches, states.

Plain frozen data classes. They know no file, no accelerator and no second: a
layer answers which matrices a token is multiplied with, which keys a query
meets, and which bytes stay behind, and the laws turn that into time.
"""
