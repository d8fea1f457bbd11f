"""The pure machine: state, event and `now` in, instructions out. Knows no clock, no network, no tasks, no messages."""
