"""Sparse models: the kinds there are, where a dense model's parts go in one, and the frame of a recipe with experts."""
