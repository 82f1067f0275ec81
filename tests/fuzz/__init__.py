"""Campaigns of damaged files and settings: `make fuzz`. See `run.py`."""
