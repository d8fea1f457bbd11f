"""Pure words that every process shares: names, limits, errors, models. Standard library only; no I/O, no clock."""
