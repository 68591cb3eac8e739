"""An answer's text → the program in it. It runs nothing, and leaves parsing to the sandbox: text can crash a parser.

A fenced block counts before the text around it; of several, the first that defines what the tests call, else the first.
MBPP's [BEGIN] and [DONE] are markers, not code. With a prefix (HumanEval: the head of a function), a text that defines
the function itself goes after the prefix, so that its imports and helpers are there; any other continues it.
"""

import re
from collections.abc import Collection

_FENCE = re.compile(
    r"(?:^([ \t]*+)|(?<=\s))(```++|~~~++)[ \t]*+([\w+-]*+)[^\n`]{0,200}+\n(.*?)(^[ \t]*+\2[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
_PROSE = re.compile(r"[A-Z][^\n=#]*[ ][^\n=#]*[:.!]")
_FIRST = re.compile(r"^(?:@\w|(?:async[ ]+)?def[ ]|class[ ]|import[ ]|from[ ])", re.MULTILINE)
_CODE = ("", "python", "python3", "py", "py3")


def program_of(answer: str, names: Collection[str], prefix: str = "") -> str:
    """The program that an answer to a prompt gives; `names` are what the tests call. May be no valid Python."""
    text = _block(answer.replace("\r\n", "\n"), names)
    if not prefix:
        return text
    return f"{prefix}\n{text}" if _defines(text, names) else prefix + text


def _block(text: str, names: Collection[str]) -> str:
    blocks = [_inside(match) for match in _FENCE.finditer(text) if match[3].lower() in _CODE]
    if blocks:
        return next((block for block in blocks if _defines(block, names)), blocks[0])
    if "[BEGIN]" in text:
        text = text.split("[BEGIN]", 1)[1]
    return _without_greeting(text.split("[DONE]", 1)[0])


def _inside(match: re.Match[str]) -> str:
    """What a fence holds, less the fence's own indentation (in a list). Where none ends it on a line of its own, it
    ends at the first at a line's end."""
    indent, fence, text = match[1] or "", match[2], match[4]
    if not match[5]:
        text = re.split(rf"{fence}[ \t]*$", text, maxsplit=1, flags=re.MULTILINE)[0]
    return re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) if indent else text


def _without_greeting(text: str) -> str:
    """Without the lines of prose that a program without a fence begins with, such as `Here is the function:`."""
    first = _FIRST.search(text)
    before = text[: first.start()].splitlines() if first else []
    if first and before and all(not line.strip() or _PROSE.fullmatch(line.strip()) for line in before):
        return text[first.start() :]
    return text


def _defines(text: str, names: Collection[str]) -> bool:
    """Whether a text binds one of the names at its left margin."""
    found = re.findall(r"^(?:async[ ]+def|def|class)[ ]+(\w+)|^(\w+)[ ]*(?::[^=\n]+)?=(?!=)", text, re.MULTILINE)
    return any((name or other) in names for name, other in found)
