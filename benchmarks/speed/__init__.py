"""The sections of benchmarks/merge.py, one file each, and what they share: models, rounds, tables."""
