"""The laws: one file each, from counts (FLOP, bytes, messages) to seconds.

Every function takes scalars or numpy arrays that broadcast and returns arrays.
None knows a file, a catalog class, a console or a log.
"""
