"""What development tries before there is a candidate: looks, comparisons, ideas."""
