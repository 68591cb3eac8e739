"""An answer's text → the part of it that holds the program. It runs nothing, and leaves parsing to the sandbox
(`reading.py`): text can crash a parser.

What was thought before the answer does not count. Of fenced blocks the last that defines what the tests call is taken,
with what it needs of those before it; one that the answer's end cuts off only where there is no whole one, one with the
tag of another language only where none has Python's or none. Where no block defines it, the text may. MBPP's [BEGIN]
and [DONE] are markers, not code. With a prefix (HumanEval: the head of a function), a text that defines the function
itself goes after the prefix, so that its imports and helpers are there; any other continues it.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass

# A line that ends a block is indented no deeper than its first, but for three spaces: else it is in a docstring.
_FENCE = re.compile(
    r"(?:^([ \t]*+)|(?<=\s))(```++|~~~++)[ \t]*+([\w+-]*+)[^\n`]{0,200}+\n"
    r"(.*?)(^(?:[ ]{0,3}|(?(1)\1)[ ]{0,3})\2[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_END = re.compile(r"(?:<\|(?:im_)?(?:end|eot)\w{0,20}+\|>|</s>|<eos>|<end_of_turn>)[ \t]*+(?:\n|\Z)")
_THOUGHT = re.compile(r"</think(?:ing)?>")


@dataclass(frozen=True)
class Draft:
    """What an answer gives: `prefix` + `text` is the program, if it parses; `helpers` are the blocks beside it, `names`
    what the tests call."""

    text: str
    prefix: str = ""
    helpers: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Block:
    text: str
    python: bool
    whole: bool


def program_of(answer: str, names: Collection[str], prefix: str = "") -> Draft:
    """The program that an answer to a prompt gives; `names` are what the tests call. May be no valid Python."""
    answer = _END.split(_said(answer.replace("\r\n", "\n").lstrip("\ufeff")), maxsplit=1)[0]
    if prefix and re.match(r"\n*[ \t]{2}[ \t]*+[^\s`~]", answer):  # the body goes on, whatever is said after it
        return Draft(re.split(r"^```", answer, maxsplit=1, flags=re.MULTILINE)[0], prefix, (), tuple(names))
    text, helpers = _chosen(answer, names)
    if prefix and _defines(text, names):
        prefix, text = "", f"{prefix}\n{text}"
    return Draft(text, prefix, helpers, tuple(names))


def _said(text: str) -> str:
    """The text after what was thought, where the answer begins with that (its first mark may be the prompt's)."""
    ends = [match.end() for match in _THOUGHT.finditer(text)]
    began = text.find("<think")
    return text[ends[-1] :] if ends and (began < 0 or not text[:began].strip()) else text


def _chosen(text: str, names: Collection[str]) -> tuple[str, tuple[str, ...]]:
    """The text of the program and the blocks beside it."""
    blocks = [_block(match) for match in _FENCE.finditer(text)]
    defining = [block for block in blocks if _defines(block.text, names)]
    if defining:
        best = max((block.python, block.whole) for block in defining)
        chosen = [block for block in defining if (block.python, block.whole) == best][-1]
        return chosen.text, tuple(block.text for block in blocks if block.python and block is not chosen)
    python = [block for block in blocks if block.python]
    if python and not _defines(text, names):
        return python[0].text, ()
    if "[BEGIN]" in text:
        text = text.split("[BEGIN]", 1)[1]
    return text.split("[DONE]", 1)[0], ()


def _block(match: re.Match[str]) -> _Block:
    """What a fence holds, less the fence's own indentation (in a list). Where none ends it on a line of its own, it
    ends at the first at a line's end."""
    indent, fence, text = match[1] or "", match[2], match[4]
    whole = bool(match[5])
    if not whole:
        text, *rest = re.split(rf"{fence}[ \t]*$", text, maxsplit=1, flags=re.MULTILINE)
        whole = bool(rest)
    if indent:
        text = re.sub(rf"^{indent}", "", text, flags=re.MULTILINE)
    tag = match[3].lower()
    return _Block(text, not tag or "py" in tag, whole)


def _defines(text: str, names: Collection[str]) -> bool:
    """Whether a text binds one of the names at its left margin."""
    found = re.findall(r"^(?:async[ ]+def|def|class)[ ]+(\w+)|^(\w+)[ ]*(?::[^=\n]+)?=(?!=)", text, re.MULTILINE)
    return any((name or other) in names for name, other in found)
