"""Gemma 4 at drafter speed, from a terminal."""

__version__ = "0.1.0"
