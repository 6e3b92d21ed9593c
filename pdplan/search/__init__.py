"""From a question to the cheapest plan: enumerate layouts, size pools, pair them.

layouts        every (tp, pp, dp, ep) that the model's shape and the accelerator allow
candidates     worker types of one role as arrays: what fits, how fast, how many are needed
pairs          a prefill and a decode pool sized for each other
disaggregated  pairs of prefill and decode pools, best bound first
colocated      one pool for both
goodput        the same turned round: the most requests for a number of accelerators, or dollars
goodput_pairs  of two pools: is there a plan at a rate that takes no more than the budget?
ranked         the plans of one space, best first
recommend      the one entry
"""

from pdplan.search.recommend import recommend

__all__ = ["recommend"]
