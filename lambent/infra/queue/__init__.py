"""The durable queue of asynchronous events: `port` says what it does, `redis_queue` and `memory_queue` do it alike.

`records` says what an event looks like in it.
"""
