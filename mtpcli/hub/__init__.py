"""Models by name: what names mean, where their files come from, and where they are kept."""
