"""What a server's response says: words, or why there are none. It sends nothing."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

_SHOWN = 120  # characters of a response in a message
CUT_OFF = "the judge was cut off; raise its max_tokens"  # a verdict so far may be a draft


@dataclass(frozen=True)
class Reply:
    """A judge's words; None and `why` where it gave none. `tokens` were used, prompt and words together."""

    words: str | None
    why: str = ""
    tokens: int = 0


def read_reply(body: bytes, prompt: str) -> Reply:
    """The first choice's text of a chat completion."""
    text = body.decode("utf-8", "replace")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return Reply(None, f"the judge's reply is not JSON: {beginning(text)}")
    if not isinstance(data, Mapping):
        return Reply(None, f"the judge's reply is no chat completion: {beginning(text)}")
    try:
        choice = data["choices"][0]
        words = _text(choice["message"]["content"])
    except (LookupError, TypeError):
        return Reply(None, f"the judge's reply is no chat completion: {beginning(text)}")
    if words is None or not words.strip():
        return Reply(None, "the judge said nothing", _tokens(data, prompt, ""))
    tokens = _tokens(data, prompt, words)
    if choice.get("finish_reason") == "length":
        return Reply(None, CUT_OFF, tokens)
    return Reply(words, tokens=tokens)


def is_failure(body: bytes) -> bool:
    """Whether a server says that something is wrong though it answers 200, as those that pass requests on do."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(data, Mapping) and bool(data.get("error")) and not data.get("choices")


def _text(content: Any) -> str | None:
    """The text of a message's content, which may come in parts; None where there is none."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part["type"] == "text")
    return content if isinstance(content, str) else None


def _tokens(data: Mapping[str, Any], prompt: str, words: str) -> int:
    usage = data.get("usage")
    total = usage.get("total_tokens") if isinstance(usage, Mapping) else None
    if isinstance(total, int) and not isinstance(total, bool) and total >= 0:
        return total
    return (len(prompt) + len(words)) // 3  # a server that counts nothing: more than there are, for the limit's sake


def beginning(text: str) -> str:
    """A response's first words, for a message."""
    flat = " ".join(text.split())
    return repr(flat[:_SHOWN] + ("…" if len(flat) > _SHOWN else ""))


def retry_after(value: str | None) -> float | None:
    """The seconds that a Retry-After header names, as a number or as a date; None where it names none."""
    if value is None:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # no date, or one in no time zone there is
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())
