"""The version of the JSON contract, apart so that light commands need no more."""

SCHEMA_VERSION = 1
"""Raised when a name changes its meaning or goes; new names do not raise it."""
