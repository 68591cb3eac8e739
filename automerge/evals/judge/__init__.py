"""Judges: another model's opinion of an answer. What is asked and how its words are read; the scorer is elsewhere.

config.py     who judges, and the limits on asking
fence.py      the answer under judgement, set apart so that nothing in it can pass for an instruction or a rating
prompts.py    MT-Bench's ways to ask: one answer with a rating, or two with a choice
opinions.py   words → rating or choice
endpoint.py   an OpenAI-compatible server: time limits, retries, what came back
pace.py       requests a minute, and what may be spent in all
local.py      a model in an engine of our own
"""
