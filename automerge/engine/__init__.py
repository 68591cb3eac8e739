"""Engines: a running model that takes merged weights in place and answers prompts."""
