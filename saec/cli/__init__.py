"""The command `saec`."""
