"""The worker: hosts execution environments and runs invocations in them. Decides nothing about who may run where."""
