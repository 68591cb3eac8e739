"""What an answer says, without its thoughts and its typography, and where it says "the answer is". It knows no numbers,
no letters and no scores.
"""

import re

MOST_END = 30_000  # characters of either end of an answer that are read

_THOUGHT = re.compile(r"(?i)</think(?:ing)?>|\[/THINK\]")
_THINKING = re.compile(r"(?i)<think(?:ing)?>|\[THINK\]")

_PLAIN = (
    {wide: wide - 0xFEE0 for wide in range(0xFF01, 0xFF5F)}  # １２３，（Ａ）
    | dict.fromkeys(map(ord, "−–—﹣"), "-")
    | dict.fromkeys(map(ord, "“”„"), '"')
    | dict.fromkeys(map(ord, "‘’"), "'")
    | dict.fromkeys(map(ord, "\u202f\u2009"), "\u00a0")
    | dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"))
    | {ord("⁄"): "/", ord("\\"): "\\"}
)
_WRAPPED = re.compile(r"\\(?:text(?:bf|it|rm|sf|tt)?|math(?:rm|bf|sf|it|tt)|boldsymbol|mbox)\s{0,9}\{([^{}]{0,200})\}")
_COMMANDS = re.compile(r"\\(?:[()\[\]]|(?:left|right|displaystyle)(?![A-Za-z]))")
_OPENING = re.compile(r"(?<![A-Za-z0-9_])_{1,3}(?=[^\s_])")  # __so__ and _so_, but not x_1
_CLOSING = re.compile(r"(?<=[^\s_])_{1,3}(?![A-Za-z0-9_])")

# "The answer", in the languages that models answer in most, and what links it to what it is: a verb (some words may
# stand between: "the answer to this question is"), a mark such as : or = or an arrow, or the end of a heading's line.
_NOUN = r"(?<![A-Za-z/])(?:answer|respuesta|resposta|risposta|r[ée]ponse|antwort|ответ|الإجابة|उत्तर)(?!\w)"
_WORDS = (
    r"(?:,?\s(?:to|for|of|in|from|that|among|here|therefore|correcta|correta|corretta|correcte)\b"
    r",?[^.,:;=\n\d]{0,60}?)?"
)
_VERB = (
    r"(?:'s|\s(?:is|was|(?:would|should|must|has to)(?: (?!not)\w{1,12})? be|comes to|es|est|ist|lautet|é|è|هي))(?!\w)"
    r"(?!\s+not\b(?![^.\n]{0,40}\bbut\b))"
)
_MARK = (
    r"[*\"']{0,6}(?:\s?\([^()\n]{0,40}\)\*{0,3})?"
    r"(?:\s{0,9}[:=>→⇒]|\s-(?=\s)|,(?=\s?[\d.]{1,20},)|[ *]{0,6}\n)"
)
_SHORT = r"(?:(?<![\w/])ans\b\.?|^\W{0,9}(?:\w+ ){0,2}result\b|\bcorrect\b)[*\"']{0,6}\s{0,3}[:=]|(?<![\w/])ans\.(?=\s)"
_EAST = r"(?:答案|答え|正解|정답|답|^答)\s?(?:应该|應該|是|为|為|は|은|는|[:=]){1,3}"


def linked(noun: str) -> str:
    """A pattern of "NOUN is", "NOUN to this question is", "NOUN:" and the like."""
    return rf"{noun}(?:{_WORDS}{_VERB}|{_MARK})"


STATED = re.compile(rf"(?im)(?:{linked(_NOUN)}|{_SHORT}|{_EAST})[*\"']{{0,6}}")
_SECOND_THOUGHT = re.compile(
    r"(?im)(?:^|[.!?…)]\s{1,9})\W{0,3}(?:(?:but|no|oh|hmm|oops|sorry)\W{1,3})?(?:wait(?=\s?[,.!?:…-]|\s(?:a|I|no|let)\b)"
    r"|hold on\b|scratch that\b|correction:|actually\b(?=[^.!?\n]{0,60}\b(?:mistake|error|wrong|incorrect|should)\b))"
)


def said(text: str) -> str:
    """The answer without the thoughts before it, <think>…</think>; thoughts that were cut off hold no answer."""
    return _THINKING.split(_THOUGHT.split(text)[-1], maxsplit=1)[0]


def ends(text: str) -> str:
    """The text, or of one that no model stops writing its two ends, where an answer stands."""
    return text if len(text) <= 2 * MOST_END else f"{text[:MOST_END]}\n{text[-MOST_END:]}"


def plain(text: str) -> str:
    """The text in ASCII's digits and punctuation, without LaTeX's wrappers; emphasis is written with asterisks."""
    text = _COMMANDS.sub("", _WRAPPED.sub(r"\1", text.translate(_PLAIN)))
    return _CLOSING.sub("**", _OPENING.sub("**", text)) if "_" in text else text


def second_thought(text: str) -> str:
    """What follows the last "Wait, …" or "Correction: …", by which an answer takes back what it said; else nothing."""
    ends = [match.end() for match in _SECOND_THOUGHT.finditer(text)]
    return text[ends[-1] :] if ends else ""
