"""An answer's text → the program in it. It runs nothing, and leaves parsing to the sandbox: text can crash a parser.

A fenced block counts before the text around it; of several, the first that defines what the tests call, else the first.
MBPP's [BEGIN] and [DONE] are markers, not code. With a prefix (HumanEval: the head of a function), a text that defines
the function itself goes after the prefix, so that its imports and helpers are there; any other continues it.
"""

import re
from collections.abc import Collection

_FENCE = re.compile(
    r"(?:^|(?<=\s))(```++|~~~++)[ \t]*+([\w+-]*+)[^\n`]*+\n(.*?)(?:\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE
)
_CODE = ("", "python", "python3", "py", "py3")


def program_of(answer: str, names: Collection[str], prefix: str = "") -> str:
    """The program that an answer to a prompt gives; `names` are what the tests call. May be no valid Python."""
    text = _block(answer.replace("\r\n", "\n"), names)
    if not prefix:
        return text
    return f"{prefix}\n{text}" if _defines(text, names) else prefix + text


def _block(text: str, names: Collection[str]) -> str:
    blocks = [match[3] for match in _FENCE.finditer(text) if match[2].lower() in _CODE]
    if blocks:
        return next((block for block in blocks if _defines(block, names)), blocks[0])
    if "[BEGIN]" in text:
        text = text.split("[BEGIN]", 1)[1]
    return text.split("[DONE]", 1)[0]


def _defines(text: str, names: Collection[str]) -> bool:
    """Whether a text binds one of the names at its left margin."""
    found = re.findall(r"^(?:async[ ]+def|def|class)[ ]+(\w+)|^(\w+)[ ]*(?::[^=\n]+)?=(?!=)", text, re.MULTILINE)
    return any((name or other) in names for name, other in found)
