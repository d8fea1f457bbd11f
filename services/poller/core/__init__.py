"""Which queue is read next and how much of it. Pure: no clock, no store."""
