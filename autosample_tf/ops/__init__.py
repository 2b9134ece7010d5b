"""What a step computes with, in the graph: random numbers, look-ups, rows, replicas."""
