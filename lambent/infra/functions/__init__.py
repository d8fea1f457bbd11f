"""Functions as frontends and pollers share them: where they are kept, and what invoking one takes.

`port` says what is asked of the store, `redis_store` and `memory_store` answer alike; `directory` remembers what a name
and a qualifier stand for; `concurrency_settings` tells the scheduler what is set.
"""
