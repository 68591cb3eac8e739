"""Jinja templates, of skills and of models, rendered in a child process that is limited in time and memory.

environments.py   what a template sees and may do
host.py           the child process
client.py         this side: text, or TemplateFailure
"""
