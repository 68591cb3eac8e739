"""Numbers in prose: finds them and gives exact values. It knows no targets and no scores.

Understood: 1,234,567 · 1,23,456 · 1'234 · 1_234 · 1 234 · .5 · 42. · -3 and −3 · "negative 3", "is minus 3" · $5,
-$5, Rs.5, USD5 (no currency counts) · 25% (as 25) · 3/4 · 1 1/2, 1-1/2, 1 and 1/2 · ½ · 1.5e3 · 1.5 × 10^3 · 3×10⁸ ·
2^10 · 1.2 million, 75k, 3 lakh, 3万 · € 18,00 · full-width digits · LaTeX's \\frac{3}{4}, \\frac12, \\text{…}, \\$
and \\%. The power of a unit (m^2) is no number. Not understood: 1.234,56 and 3,5 (comma as decimal mark)
without a €, words.
"""

import re
import unicodedata
from fractions import Fraction

from automerge.evals.scorers import answers

MAX_DIGITS = 60  # longer runs of digits are not answers, and exact arithmetic on them is slow
MAX_EXPONENT = 100

_UNSIGNED = (
    r"(?:\d{1,3}(?P<mark>[,\u00a0'’_ ])\d{3}(?:(?P=mark)\d{3})*(?!\d)(?:\.\d+)?"
    r"|\d{1,2}(?:,\d{2}){1,9},\d{3}(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
)
_TIMES_TEN = r"\s?(?:[×*·]|x|\\times|\\cdot)\s?10\^\{?(?P<p>[+-]?\d+)\}?"
_OVER = r"(?P<whole>(?:[ ]{1,2}|-|[ ](?:and|&)[ ])\d+)?/(?P<d>\d+)(?![\d/]|\.\d)"
_SCALES = {"hundred": 2, "thousand": 3, "lakh": 5, "million": 6, "crore": 7, "billion": 9, "trillion": 12}
_SCALES |= {"k": 3, "万": 4, "萬": 4, "亿": 8, "億": 8}
_SCALE = rf"\s?(?P<scale>(?i:{'|'.join(name for name in _SCALES if name.isascii() and len(name) > 1)})(?=s?\b))"
NUMBER = re.compile(
    r"(?:(?<![\w.)%])(?P<sign>[+-])(?=[\d.])|)"  # not the minus of "5-3", "A-3" or "5 - 3"
    rf"(?<![A-Za-z_\d])(?<![A-Za-z_\d]\.)(?P<a>{_UNSIGNED})"
    rf"(?:[eE](?P<e>[+-]?\d+)|{_TIMES_TEN}|\^\{{?(?P<q>-?\d{{1,3}})\}}?|{_OVER}|{_SCALE}|(?P<short>k(?!\w)|[万萬亿億]))?"
)
_SCALED = re.compile(rf"(?<=\d){_SCALE}(?:s\b)?|(?<=\d)\s?k\b")
_SEPARATOR = re.compile(r"[,\u00a0'’_ ]")

_ABOVE = r"(?:\{\s{0,9}([+-]?)\s{0,9}(\d[\d,]{0,80}(?:\.\d+)?)\s{0,9}\}|()(\d))"
_FRACTION = re.compile(  # with its sign; 2\frac is 2 1/2
    rf"((?<![\w)}}\]])[+-]|)\s?\\[dtc]?frac\s{{0,9}}{_ABOVE}\s{{0,9}}(?:\{{\s{{0,9}}(\d+)\s{{0,9}}\}}|(\d))"
)
_UNIT_POWER = re.compile(r"(?<=[A-Za-z}])(?:\^|\*\*)(?:\{[1-9]\}|[1-9])(?!\d)")
_VULGAR = re.compile("[ ]?([½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])")
_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_TEN = re.compile(r"(?<=10)[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]{1,6}")
_COMMA = r"(?<![\d.,])(\d{1,3}(?:[. \u00a0]\d{3}){0,5}),(\d\d)(?!\d)"  # 1.234,56 beside a €
_EURO = re.compile(rf"€\s?{_COMMA}|{_COMMA}(?=\s?(?:€|[Ee]uros?\b))")
_CURRENCY = r"(?:\\?[$€£¥₹]|\b(?:Rs|INR|USD|EUR|GBP|CHF|US)\.?(?=\s?[-\d$]))"
_SIGNED_CURRENCY = re.compile(rf"([-+]){_CURRENCY}(?=[\d.])")
_ANY_CURRENCY = re.compile(_CURRENCY)
_ESCAPED = re.compile(r"\\(?:(%)|[,;!: ])|(?<=\d)\{(,)\}(?=\d)")  # \% stays, thin spaces go, 10{,}000
_AFTER = "".join(rf"(?<=\b{word} )|" for word in ("is", "now", "was", "to", "of")) + "(?<=^)|(?<== )|(?<=: )"
_SIGN_WORD = re.compile(rf"(?i)(?:\bnegative |(?:{_AFTER})minus |(?<== )- )(?={_CURRENCY}?[\d.])")


def plain(text: str) -> str:
    """The text with one kind of minus sign and one kind of digit, without currencies, and LaTeX's numbers written
    plainly."""
    text = _TEN.sub(lambda match: "^" + match[0].translate(_RAISED), text)
    text = _VULGAR.sub(lambda match: " " + unicodedata.normalize("NFKC", match[1]), text)
    text = _SIGN_WORD.sub("-", answers.plain(text))
    text = _EURO.sub(lambda match: f" {_digits(match[1] or match[3])}.{match[2] or match[4]}", text)
    text = _ANY_CURRENCY.sub(" ", _SIGNED_CURRENCY.sub(r"\1", text))
    text = _UNIT_POWER.sub("", _FRACTION.sub(_written, text))
    return _ESCAPED.sub(lambda match: match[1] or match[2] or "", text)


def unscaled(text: str) -> str:
    """The text without its thousands and millions: "2.5 million" as "2.5", the answer to "how many million"."""
    return _SCALED.sub("", text)


def _digits(grouped: str) -> str:
    return re.sub(r"\D", "", grouped)


def _written(match: re.Match[str]) -> str:
    sign, inner, above, _, digit, below, other = match.groups()
    whole = "-" if (sign == "-") != (inner == "-") else ""
    return f" {whole}{(above or digit).replace(',', '')}/{below or other}"


def find_numbers(text: str) -> list[Fraction]:
    """Every number of a text, in order, exactly; those too long to be answers are left out."""
    return numbers_of(plain(text))


def numbers_of(text: str) -> list[Fraction]:
    """`find_numbers` of a text that is plain already."""
    return [value for match in NUMBER.finditer(text) if (value := value_of(match)) is not None]


def value_of(match: re.Match[str]) -> Fraction | None:
    """The value of a match of NUMBER; None: too long for an answer, or a division by zero."""
    digits = _SEPARATOR.sub("", match["a"])
    power = int(match["q"] or "1")
    scale = match["scale"] or match["short"]
    exponent = _SCALES[scale.lower()] if scale else int((match["e"] or match["p"] or "0")[:8])
    if len(digits) > MAX_DIGITS or abs(exponent) > MAX_EXPONENT or len(match["d"] or "") > MAX_DIGITS:
        return None
    value = Fraction(digits if not digits.startswith(".") else f"0{digits}") * Fraction(10) ** exponent
    if len(digits) * abs(power) > 3 * MAX_EXPONENT or (power < 0 and not value):
        return None
    value = value**power
    if match["d"] is not None:
        below = int(match["d"])
        above = int(_digits(match["whole"])) if match["whole"] else None
        if below == 0:
            return None
        value = value / below if above is None else Fraction(above, below) + (value if above < below else 0)
    return -value if match["sign"] == "-" else value
