"""How fast and how much a judge may be asked. It sends nothing."""

import time


class Pace:
    """Spaces requests evenly, and makes all of them wait where the server said so."""

    def __init__(self, per_minute: float | None) -> None:
        self._gap = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    def seconds_to_wait(self) -> float:
        """Takes the next place in the line."""
        now = time.monotonic()
        place = max(now, self._next)
        self._next = place + self._gap
        return place - now

    def hold(self, seconds: float) -> None:
        """Nobody goes before so many seconds have passed."""
        self._next = max(self._next, time.monotonic() + seconds)


class Budget:
    """Counts requests (every try is one) and tokens. Requests under way when the limit is met are let through."""

    def __init__(self, requests: int | None, tokens: int | None) -> None:
        self._max_requests, self._max_tokens = requests, tokens
        self.requests = self.tokens = 0

    def spent(self) -> str | None:
        """Which limit is used up, or None."""
        if self._max_requests is not None and self.requests >= self._max_requests:
            return f"the limit of {self._max_requests} requests to the judge is used up (max_requests)"
        if self._max_tokens is not None and self.tokens >= self._max_tokens:
            return f"the limit of {self._max_tokens} tokens for the judge is used up (max_tokens_in_all)"
        return None
