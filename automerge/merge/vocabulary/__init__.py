"""Models whose vocabularies differ: their tokens, which row is which token's, and the merge's own tokenizer."""
