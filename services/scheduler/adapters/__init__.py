"""What the scheduler needs of others: who leads, by Redis or by a Lease of Kubernetes."""
