"""Many prompts from a file, many answers into a file, whatever happens on the way."""
