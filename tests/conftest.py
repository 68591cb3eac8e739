"""For every test."""

from hypothesis import settings

# An example may be the first that compiles a kernel; how long one takes is no property.
settings.register_profile("automerge", deadline=None)
settings.load_profile("automerge")
