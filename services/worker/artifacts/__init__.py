"""Packages on this worker: fetched once, unpacked once per digest, read-only from then on."""
