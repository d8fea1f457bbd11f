"""The pure part of the worker: one environment's life as a table. No clock, no tasks, no sockets, no messages."""
