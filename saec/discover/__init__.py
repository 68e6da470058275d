"""Getting to know a click log that nobody has described yet, and a configuration that does not fit its log."""
