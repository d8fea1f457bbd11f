"""Measurements against the design's budgets, each beside its baseline. `make bench` runs it; see __main__.py."""
