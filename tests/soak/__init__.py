"""An hour of work in one process; `make soak` runs it."""
