"""Writing a merge down: a complete, verified Hugging Face folder, or nothing."""
