"""mergekit's YAML in (read.py) and out (write.py).

    schema      the file's shape          settings   filters, gradients, which level wins
    table       methods and parameters    cast       which model is what
    tokens      tokenizer, template       groups     values by tensor → groups; emit the way back
What differs from mergekit is in docs/mergekit.md.
"""
