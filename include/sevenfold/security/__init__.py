"""Security and compliance of a candidate: each module one kind of check, each check a list of problems."""
