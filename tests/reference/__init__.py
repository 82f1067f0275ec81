"""Comparisons with other programs: slow, and only where those are at hand."""
