"""A Report, or a check's findings, as text.

render     by the name of the format
text, markdown, machine (JSON and CSV), check_ci (GitHub annotations, JUnit)
"""
