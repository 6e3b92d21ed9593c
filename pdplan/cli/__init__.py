"""The command line: thin. Flags go to pdplan.inputs, results to pdplan.report.

Nothing here imports numpy, scipy or pydantic before a command runs: `--help` must not wait for them.
"""
