"""The tiny family of tests/merge. The contract's asserts are shown as a test's own."""

import pytest

from tests.merge.conftest import family, folders, own_cache

__all__ = ["family", "folders", "own_cache"]

pytest.register_assert_rewrite("tests.engine.contract")
