"""The search turned round: the most requests/s for a number of accelerators, or dollars.

goodput        the entry
goodput_pairs  of two pools: is there a plan at a rate that takes no more than the budget?
splits         of one budget between two pools
rates          the highest rate that each of many deployments serves
"""
