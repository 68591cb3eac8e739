"""A judge behind an OpenAI-compatible server: every request ends, in words or with a reason. It parses no verdict.

| what comes | what is done |
|---|---|
| no connection, a broken one, nothing in time, 408, 409, 425, 429, 5xx | tried again, ever later; then SkillError |
| 400, 413, 422: this prompt is refused (too long) | the item is unscored; SkillError where the first are all refused |
| 200 with an error in place of choices | tried again, as 5xx is |
| any other status: a wrong address, key or model | SkillError at once |
| HTML, cut JSON, no words | the item is unscored |
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx

from automerge.errors import SkillError
from automerge.evals.judge.config import JudgeConfig
from automerge.evals.judge.pace import Budget, Pace
from automerge.evals.judge.reply import Reply, beginning, is_failure, read_reply, retry_after

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds, doubled from try to try
LONGEST_RETRY_AFTER = 600.0  # what a server may ask for before we say so and stop
MOST_BYTES = 4 << 20  # of a response
_AGAIN = frozenset({408, 409, 425, 429})
_REFUSED = frozenset({400, 413, 422})
REFUSALS = 8  # with no prompt taken before: it is not the prompts
_NEWER_LIMIT = "max_completion_tokens"  # what OpenAI's reasoning models want in place of max_tokens

OnWords = Callable[[int, str], None]


class Endpoint:
    """One server, model and key. What is spent counts for as long as the object lives."""

    def __init__(self, config: JudgeConfig) -> None:
        self.identity = config.model
        self._config = config
        self._where = f"judge {config.model} at {config.url}"
        self._pace = Pace(config.requests_per_minute)
        self.budget = Budget(config.max_requests, config.max_tokens_in_all)
        self._limit = "max_tokens"
        self._refused = self._taken = 0  # prompts

    def ask(self, prompts: Sequence[str], on_words: OnWords) -> list[Reply]:
        """A reply a prompt, in order; `on_words` gets the words of each as they come. Raises SkillError where the
        judge cannot be reached, or refuses us."""
        return asyncio.run(self._all(prompts, on_words))

    async def _all(self, prompts: Sequence[str], on_words: OnWords) -> list[Reply]:
        secret = self._config.secret()
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        seats = asyncio.Semaphore(self._config.at_once)
        async with httpx.AsyncClient(headers=headers, timeout=None) as client:

            async def one(index: int, prompt: str) -> Reply:
                async with seats:
                    reply = await self._one(client, prompt, secret)
                if reply.words is not None:
                    on_words(index, reply.words)
                return reply

            return await _together([one(index, prompt) for index, prompt in enumerate(prompts)])

    async def _one(self, client: httpx.AsyncClient, prompt: str, secret: str | None) -> Reply:
        trouble, wait = "", FIRST_WAIT
        for number in range(self._config.tries):
            if number:
                await asyncio.sleep(wait * random.uniform(0.5, 1.0))
                wait = min(2 * wait, LONGEST_WAIT)
            await asyncio.sleep(self._pace.seconds_to_wait())
            if (spent := self.budget.spent()) is not None:
                return Reply(None, spent)
            self.budget.requests += 1
            try:
                async with asyncio.timeout(self._config.timeout):
                    status, again, body = await self._post(client, prompt)
            except TimeoutError:
                trouble = f"no answer within {self._config.timeout:g} s"
                continue
            except httpx.RequestError as error:
                trouble = f"{type(error).__name__}: {error}".rstrip(": ")
                continue
            text = body.decode("utf-8", "replace")
            shown = beginning(text.replace(secret, "***") if secret else text)
            trouble = f"HTTP {status}: {shown}"
            if status == 200:
                if not is_failure(body):
                    self._taken += 1
                    return self._read(body, prompt, secret)
                trouble = f"an error: {shown}"
                continue
            if status == 400 and _NEWER_LIMIT in text and self._limit != _NEWER_LIMIT:
                self._limit = _NEWER_LIMIT
                continue
            if status in _REFUSED:
                return self._refuse(trouble)
            if status not in _AGAIN and status < 500:
                raise SkillError(trouble, where=self._where, hint=_hint(status, self._config))
            if again is not None:
                self._wait_for(again)
        raise SkillError(
            f"the judge cannot be reached: tried {self._config.tries} times, at last: {trouble}",
            where=self._where,
            hint="What was generated and judged is kept (by eval with --answers FILE, by score with --judged FILE); "
            "the same command goes on.",
        )

    async def _post(self, client: httpx.AsyncClient, prompt: str) -> tuple[int, float | None, bytes]:
        """(status, seconds to wait as the server says, body)."""
        content = {
            "model": self._config.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            self._limit: self._config.max_tokens,
        }
        async with client.stream("POST", f"{self._config.url}/chat/completions", json=content) as response:
            body = b""
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    break
            return response.status_code, retry_after(response.headers.get("Retry-After")), body

    def _read(self, body: bytes, prompt: str, secret: str | None) -> Reply:
        # A server that repeats our key, in whatever it says, must not get it into a store or a message.
        reply = read_reply(body.replace(secret.encode(), b"***") if secret else body, prompt)
        self.budget.tokens += reply.tokens
        return reply

    def _refuse(self, trouble: str) -> Reply:
        self._refused += 1
        if self._refused >= REFUSALS and not self._taken:
            hint = "It has taken no prompt yet. Does it know this model, and is there room for prompt and max_tokens?"
            raise SkillError(f"the judge refuses every prompt: {trouble}", where=self._where, hint=hint)
        return Reply(None, f"the judge refused the prompt: {trouble}")

    def _wait_for(self, seconds: float) -> None:
        if seconds > LONGEST_RETRY_AFTER:
            raise SkillError(
                f"the judge asks to wait {seconds:.0f} s (Retry-After)",
                where=self._where,
                hint="Run the same command again then; what was judged is kept.",
            )
        self._pace.hold(seconds)


async def _together(work: Sequence[Coroutine[Any, Any, Reply]]) -> list[Reply]:
    """All results in order; the first error ends the rest."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _hint(status: int, config: JudgeConfig) -> str:
    if status in (401, 403):
        named = f"It is read from {config.key}." if config.key else "Name the variable that holds one as judge.key."
        return f"The server wants another key. {named}"
    if status == 404:
        return f"Is the url right (it often ends in /v1), and has the server a model {config.model!r}?"
    return "Is the url that of an OpenAI-compatible server, without /chat/completions?"
