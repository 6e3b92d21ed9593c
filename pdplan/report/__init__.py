"""One Report, many renderers.

blocks          what a report is made of
words, parts    what reports share: plans and objectives in words, blocks of a plan
contract        the JSON names that other programs rely on; `schemas/` has them
recommendation, evaluation, comparison, models, explanation, check, ...
                results -> Report, a file a command
formats/        Report -> text
pictures/       curves, clouds and bars
"""
