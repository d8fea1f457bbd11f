"""The frontend: turns wire formats into one set of operations, and carries them out."""
