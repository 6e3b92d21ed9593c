"""Worker types of one role on one accelerator, as arrays.

layouts       every (tp, pp, dp, ep) that a model's shape and an accelerator's wiring allow
candidates    what fits, how fast it is, how many are needed
worker_types  those that were evaluated before
whole         the least whole number that does, many cases at once
"""
