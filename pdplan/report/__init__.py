"""One Report, many renderers.

blocks          what a report is made of
contract        the JSON names that other programs rely on
recommendation, evaluation, comparison, entries, explanation, check
                results -> Report
text, markdown, machine, render
                Report -> text
"""
