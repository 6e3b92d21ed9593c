"""Plan LLM inference deployments: what to buy, how to lay it out, and why."""

__version__ = "0.1.0"
