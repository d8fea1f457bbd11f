"""What the scheduler needs of others: who leads, by Redis."""
