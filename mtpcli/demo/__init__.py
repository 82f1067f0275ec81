"""The embedded pair: its snapshots, the code that packs it, and the scripts that made it."""
