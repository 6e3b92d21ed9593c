"""From the seconds of a step to what requests see: pools, queues, first tokens.

pools        what a step means for a pool of equal workers: rates and latencies
queueing     from utilisation to waiting, its mean and percentiles
transfer     the KV cache on its way between two pools
latency      time to first token as a distribution
first_token  from a request to its first token on a worker that decodes as well
open_loop    requests that come at random
closed_loop  a fixed number of requests in flight, as benchmarks ask
trains       loops whose requests began together
mixture      pools of several kinds of workers
"""
