"""Lambda's Runtime API and Extensions API, served to one environment each. `core.py` decides, `guest.py` does."""
