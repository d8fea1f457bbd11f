"""The public API, generated from `protos/lambent/v1` by `make protos`. Never edited."""
