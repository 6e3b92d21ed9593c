"""Fitting constants to measurements: kernels to kernel tables, engines to end-to-end runs.

Nothing here is imported by the planner; it writes the data files that the planner reads.
"""
