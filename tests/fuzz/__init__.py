"""Malformed requests against both doors: made from a seed, sent to a running cluster, judged.

`generator` is pure: a seed and a number name a request for ever. `drive` sends and judges; `python -m tests.fuzz` runs
it for as long as one likes, `tests/e2e/test_malformed.py` for a while.
"""
