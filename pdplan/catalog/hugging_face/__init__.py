"""A published config.json becomes a catalog entry.

config        the entry: a dict of config.json in, a Model out
families      which reader a model_type goes to; the readers are in the files that it names
blocks, shape, fields, quantization   what readers share
entry         the YAML that is written
"""
