"""Numbers in prose: finds them and gives exact values. It knows no targets and no scores.

Understood: 1,234,567 · 1,23,456 · 1'234 · 1 234 (no-break spaces) · .5 · 42. · -3 and −3 · $5 and -$5 · 25% (as 25) ·
3/4 · 1 1/2 · ½ · 1.5e3 · 1.5 × 10^3 · 3×10⁸ · LaTeX's \\frac{3}{4}, \\frac12, \\boxed{…}, \\$ and \\%. The power of
a unit (m^2) is no number. Not understood: 1.234,56 (comma as decimal mark), 1 234 with an ordinary space, words.
"""

import re
import unicodedata
from fractions import Fraction

MAX_DIGITS = 60  # longer runs of digits are not answers, and exact arithmetic on them is slow
MAX_EXPONENT = 100
MOST_LINE = 10_000  # characters behind a mark

_UNSIGNED = (
    r"(?:\d{1,3}(?:[,\u00a0\u202f\u2009'’]\d{3})+(?!\d)(?:\.\d+)?|\d{1,2}(?:,\d{2}){1,9},\d{3}(?!\d)(?:\.\d+)?"
    r"|\d+(?:\.\d+)?|\.\d+)"
)
_POWER = r"(?:[eE](?P<e>[+-]?\d+)|\s?(?:[×*·]|x|\\times)\s?10\^\{?(?P<p>[+-]?\d+)\}?)"
_SIGN = r"(?:(?<![\w.)%])(?P<sign>[+-])(?=[$€£¥]?[\d.])|)"  # not the minus of "5-3", "A-3" or "5 - 3"
_NUMBER = re.compile(
    rf"{_SIGN}[$€£¥]?(?P<sign2>(?<=[$€£¥])-|)(?<![A-Za-z_\d])(?<![A-Za-z_\d]\.)(?P<a>{_UNSIGNED})"
    rf"(?:{_POWER}|(?P<mixed>[ ]\d+)?/(?P<d>\d+)(?![\d/]|\.\d))?"
)
_ABOVE = r"(?:\{\s{0,9}([+-]?)\s{0,9}(\d[\d,]{0,80}(?:\.\d+)?)\s{0,9}\}|()(\d))"
_FRACTION = re.compile(  # with its sign; 2\frac is 2 1/2
    rf"((?<![\w)}}\]])[+-]|)\\[dtc]?frac\s{{0,9}}{_ABOVE}\s{{0,9}}(?:\{{\s{{0,9}}(\d+)\s{{0,9}}\}}|(\d))"
)
_UNIT_POWER = re.compile(r"(?<=[A-Za-z}])\^(?:\{[1-9]\}|[1-9])(?!\d)")
_VULGAR = {ord(c): " " + unicodedata.normalize("NFKC", c).replace("⁄", "/") for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_TEN = re.compile(r"(?<=10)[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]{1,6}")
_ESCAPED = re.compile(r"\\(?:([$%])|[,;! ])|(?<=\d)\{(,)\}(?=\d)")  # \$ and \% stay, thin spaces go, 10{,}000
_MINUS = str.maketrans({"−": "-", "–": "-", "﹣": "-", "－": "-"})
_MARKS = (
    re.compile(r"####"),
    re.compile(r"\\boxed\s*\{"),
    re.compile(r"(?i)\banswer\b[*_]{0,3}(?: is\b|\s{0,9}[:=])[*_]{0,3}"),
)
_APART = re.compile(
    r"(?i)\A[^\w.+-]{0,20}(?:-|minus |negative )\s{0,5}(?=[$€£¥]?[\d.])"
)  # a sign apart from its number
MOST_MARKS = 100  # looked at, from the last


def plain(text: str) -> str:
    """The text with one kind of minus sign and LaTeX's numbers written plainly."""
    text = text.translate(_MINUS)
    text = _TEN.sub(lambda match: "^" + match[0].translate(_RAISED), text.translate(_VULGAR))
    text = _UNIT_POWER.sub("", _FRACTION.sub(_written, text))
    return _ESCAPED.sub(lambda match: (match[1] or "") + (match[2] or ""), text)


def _written(match: re.Match[str]) -> str:
    sign, inner, above, _, digit, below, other = match.groups()
    whole = "-" if (sign == "-") != (inner == "-") else ""
    return f" {whole}{(above or digit).replace(',', '')}/{below or other}"


def find_numbers(text: str) -> list[Fraction]:
    """Every number of a text, in order, exactly; those too long to be answers are left out."""
    return [value for match in _NUMBER.finditer(plain(text)) if (value := _value(match)) is not None]


def final_number(text: str) -> Fraction | None:
    """The number an answer ends on: the first after "####", else in the last \\boxed{…} or after the last
    "answer is" (there, after its last "=" if it has one); without such a mark, the last number. None: no number."""
    text = plain(text)
    for index, mark in enumerate(_MARKS):
        ends = [match.end() for match in mark.finditer(text)]
        for end in ends[:MOST_MARKS] if index == 0 else ends[: -MOST_MARKS - 1 : -1]:
            line = text[end : end + MOST_LINE].lstrip().split("\n", 1)[0]
            if index == 0 and not re.match(r"[^\w.]*\.?\d", line):
                continue  # a Markdown heading, not GSM8K's mark
            line = line.rsplit("=", 1)[1] if re.search(r"=\s*[-+$€£¥]*[\d.]", line) and index else line
            if found := find_numbers(_APART.sub("-", line)):
                return found[0]
    found = find_numbers(text)
    return found[-1] if found else None


def is_marked(text: str) -> bool:
    """Whether a text says which of its numbers it ends on."""
    return any(mark.search(text) for mark in _MARKS)


def _value(match: re.Match[str]) -> Fraction | None:
    digits = re.sub(r"[,\u00a0\u202f\u2009'’]", "", match["a"])
    exponent = int((match["e"] or match["p"] or "0")[:8])
    if len(digits) > MAX_DIGITS or abs(exponent) > MAX_EXPONENT or len(match["d"] or "") > MAX_DIGITS:
        return None
    value = Fraction(digits if not digits.startswith(".") else f"0{digits}") * Fraction(10) ** exponent
    if match["d"] is not None:
        below = int(match["d"])
        if below == 0:
            return None
        value = value + Fraction(int(match["mixed"]), below) if match["mixed"] else value / below
    return -value if "-" in ((match["sign"] or "") + match["sign2"]) else value
