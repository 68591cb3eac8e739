"""Router rows: what tells the experts of a sparse model apart, found by asking the base."""
