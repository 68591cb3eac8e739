"""The fence around an answer under judgement, and the judge's own words without what it repeats from inside.

The marks of an item are made of a hash of all that stands in its prompt. So they are the same whenever the item is
judged (the judge's words can be kept), differ between items, and cannot be foreseen by whoever wrote the answer: an
answer that contains its own hash is as hard to find as a preimage.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Fence:
    """A pair of lines."""

    begin: str
    end: str

    def around(self, text: str) -> str:
        """The text between the two lines."""
        return f"{self.begin}\n{text}\n{self.end}"

    def outside(self, words: str) -> str:
        """What a judge says itself: what it repeats of a fenced text is taken out, open ends included."""
        own = re.sub(f"{re.escape(self.begin)}.*?(?:{re.escape(self.end)}|\\Z)", " ", words, flags=re.DOTALL)
        return own.rpartition(self.end)[2]


def make_fence(texts: Sequence[str]) -> Fence:
    """The fence of a prompt made of these texts, none of which holds its mark."""
    number = 0
    while True:
        content = json.dumps([number, *texts], ensure_ascii=False).encode("utf-8", "surrogatepass")
        mark = hashlib.sha256(content).hexdigest()[:24]
        if not any(mark in text for text in texts):
            return Fence(f"<<<text {mark} begins>>>", f"<<<text {mark} ends>>>")
        number += 1
