"""From a question to the cheapest plan: enumerate layouts, size pools, pair them.

recommend   the one entry
space       everything that a question allows, evaluated once
objective   what a search minimises, and what it found; `limits` and `shares` of budgets
ranked      the plans of one space, best first; `kinds` of them, and whether one is `holding` every limit
infeasible  why nothing works, how near the nearest miss is; `shortage` of an inventory
reasons     in words: what binds the best plan
robust      workers for failures and peaks
front       throughput against speed, from `front_sets`

workers/    worker types as arrays
modes/      one pool or two, one kind of worker in each
goodput/    the search turned round: the most requests for a budget
fleets/     several kinds of workers, several deployments: integer programmes
days/       series of rates
what_if/    the same search with one input varied
"""

from pdplan.search.recommend import recommend

__all__ = ["recommend"]
