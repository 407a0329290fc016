"""The stack of one machine: its programs, who looks after them, and what they cost."""
