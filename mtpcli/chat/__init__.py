"""Conversations: what was said, how it fits the context, how it is kept."""
