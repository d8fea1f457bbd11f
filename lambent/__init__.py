"""Lambent: AWS Lambda's API and semantics on your own machines."""

__version__ = "0.1.0"
