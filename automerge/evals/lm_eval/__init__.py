"""Tasks of lm-evaluation-harness (the package lm-eval) as skills: its requests, filters and metrics over our engines.

tasks.py    a task or group by name → documents, and the requests that lm-eval makes of each
model.py    lm-eval's interface for models, answered by an engine
block.py    a block of documents → answers, kept like any other → scores
"""
