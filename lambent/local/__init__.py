"""The whole cluster on one machine: the embedded store, every service as a process, and their supervision."""
