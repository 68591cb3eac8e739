"""What the search benchmarks share: recording a landscape of real merges, replaying it, simulating studies on it."""
