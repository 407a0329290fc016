"""How a candidate is tried before it serves: servers of its own, probes, attacks, planted faults."""
