"""Application Auto Scaling: its settings in the store and at the scheduler, and what the scheduler orders by them."""
