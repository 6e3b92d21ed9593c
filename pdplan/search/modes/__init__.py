"""The cheapest plan of one mode, with one kind of worker in a pool.

colocated      one pool for both phases
disaggregated  pairs of prefill and decode pools, best bound first
pairs          two pools sized for each other
extra          where workers more in one pool pay for fewer in the other
"""
