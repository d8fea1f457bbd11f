"""The scheduler's core and callers' lease pools on virtual time, over a trace: what settings would have done."""
