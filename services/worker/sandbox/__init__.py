"""Sandboxes: one guest process each, at the strongest isolation level that the machine allows."""
