"""Evidence: where it is kept, how it is signed, and whether it still is what was written."""
