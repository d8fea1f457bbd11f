"""Where functions are kept: `port` says what is asked of a store; `redis_store` and `memory_store` answer alike."""
