from tests.study.conftest import models

__all__ = ["models"]
