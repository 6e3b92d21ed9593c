"""Curves, clouds and bars: of plain characters, and as PNG, SVG or HTML (matplotlib).

drawing          what all share
plots            curves of plain characters
fronts           Pareto fronts
scatter          predicted against measured
tornado          bars around a middle line; tornado_picture
"""
