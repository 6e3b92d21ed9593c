"""Workers over a series of rates, such as the hours of a day.

day             what to reserve and what to rent by the hour
schedule        how many workers each rate asks for
mixed_schedule  the same of mixed pools
series          the result
"""
