"""The tiny family of tests/merge."""

from tests.merge.conftest import family, folders, own_cache

__all__ = ["family", "folders", "own_cache"]
