"""Who judges, and how much may be asked of it. A key is named here, never written."""

import os
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from automerge.config import Closed

BASE = "base"
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")  # in capitals: so that a key pasted here is not taken for a name
_SERVER_ONLY = ("key", "timeout", "tries", "at_once", "requests_per_minute", "max_requests", "max_tokens_in_all")


class JudgeConfig(Closed):
    """With `url`, `model` is what that server calls it; without, a folder or hub id, served by an engine of our own, or
    `base`: the study's base model, applied by turns in the engine that serves the candidates.

    `key` names the environment variable that holds the server's key. `max_tokens` bounds one judgement, `timeout` one
    try in seconds; `max_requests` and `max_tokens_in_all` bound what one run of automerge may spend.
    """

    model: Annotated[str, Field(min_length=1)]
    url: str | None = None
    key: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] = 2048
    timeout: Annotated[float, Field(gt=0, le=3600)] = 120.0
    tries: Annotated[int, Field(ge=1, le=30)] = 8
    at_once: Annotated[int, Field(ge=1, le=256)] = 4
    requests_per_minute: Annotated[float, Field(gt=0)] | None = None
    max_requests: Annotated[int, Field(ge=1)] | None = None
    max_tokens_in_all: Annotated[int, Field(ge=1)] | None = None

    @field_validator("url")
    @classmethod
    def _plain_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        try:
            parts = urlsplit(url)
            scheme, host, _ = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host, parts = "", None, urlsplit("")
        if parts.username or parts.password or parts.query:
            raise PydanticCustomError("secret", "expected a url without a user, a password and a query")
        if scheme not in ("http", "https") or not host:
            raise ValueError("expected an address such as https://api.openai.com/v1 or http://127.0.0.1:8000/v1")
        return url.rstrip("/")

    @field_validator("key")
    @classmethod
    def _a_name(cls, key: str | None) -> str | None:
        if key is not None and not _VARIABLE.fullmatch(key):
            raise PydanticCustomError(
                "secret", "expected the name of an environment variable, in capitals, such as OPENAI_API_KEY"
            )
        return key

    @model_validator(mode="after")
    def _for_a_server(self) -> "JudgeConfig":
        if self.url is None and (given := [name for name in _SERVER_ONLY if name in self.model_fields_set]):
            raise ValueError(f"{', '.join(given)}: for a judge behind a url; this one is served here")
        return self

    @property
    def is_base(self) -> bool:
        """Whether the study's base model judges."""
        return self.url is None and self.model == BASE

    def secret(self) -> str | None:
        """The key, where one is named and set; the line end of the file it came from is no part of it."""
        return (os.environ.get(self.key) or "").strip() or None if self.key is not None else None
