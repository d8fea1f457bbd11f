"""Reads event sources: which are this poller's, and how a queue's messages become invocations."""
