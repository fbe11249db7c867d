"""Old names for old scripts."""
