"""Candidates: what one is, what it is made of, and the one file of it that is served."""
