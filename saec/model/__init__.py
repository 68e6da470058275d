"""The CTR network and the two embedding stores it sits on: full table and codebooks."""
