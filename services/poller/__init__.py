"""The poller: drains the asynchronous queue and the event source mappings. Neither exists yet; the process does, so
that everything that starts, watches and stops the cluster knows it."""
