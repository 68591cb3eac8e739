"""automerge: finds merges of fine-tuned language models by search, fenced by gates, proven on held-out items.

The stages, left to right; each sees only those before it (tests/test_layers.py):
errors → files → records → config → recipe → merge → space → engine → evals → router → gate → study → export → report →
moe → zoo → api → cli

From Python: `from automerge import api`, then api.search, api.merge, api.evaluate.
"""

__version__ = "0.1.0"
