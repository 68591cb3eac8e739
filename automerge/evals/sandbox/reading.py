"""Inside a sandbox: an answer's text → the code of the program in it. It runs nothing.

Parsing happens here, because a text can crash a parser. A text that parses is the program, less what only a person
reads (`Sure`). Of one that does not, those parts count that do, from one line at the left margin to the next: prose,
fences, marks and a program's cut-off end are none. It must then define what the tests call, and its last definition of
that must be whole, or the answer's end.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take as long as all the rest of the start
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from types import CodeType
    from typing import Any

FILE = "<answer>"
TREE = 0x400  # ast.PyCF_ONLY_AST
MAX_PARSED = 2_000_000  # characters, in all tries for one answer
MAX_AHEAD = 200  # parts that a statement which goes on at the left margin may have
MAX_TREE = 100_000  # characters of a text that is looked at, not only compiled
CONTINUES = (" ", "\t", "#", ")", "]", "}", "else:", "elif ", "except", "finally:")
DEFINITIONS = ("FunctionDef", "AsyncFunctionDef", "ClassDef", "Import", "ImportFrom")
INERT = ("Name", "Constant", "Tuple", "List", "UnaryOp", "BinOp", "BoolOp", "Compare")
UNREADABLE = (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError)


def read_program(prefix: str, text: str, helpers: Sequence[str], names: Collection[str]) -> list[CodeType]:
    """What to execute, in order. `prefix`: what the text goes on from; `helpers`: texts beside it, of which those
    statements count that define what the program lacks; `names`: what the tests call. Raises what compiling raises."""
    error: BaseException | None = None
    texts = list(_versions(prefix, text)) if prefix and len(text) < MAX_TREE else [prefix + text]
    for version in texts:
        try:
            tree = _tree(version)
            code = compile(tree or version, FILE, "exec")
        except UNREADABLE as failure:
            error = error or failure
            continue
        return [*_lacking(code, tree, helpers), code]
    for version in texts:
        if (tree := _salvaged(version, names)) is not None:
            code = compile(tree, FILE, "exec")
            return [*_lacking(code, tree, helpers), code]
    assert error is not None
    raise error


def _versions(prefix: str, text: str) -> Iterator[str]:
    """A function's head with its body as it was written, with the body's first line moved to its place (an answer's
    outer space was stripped), and with all of the body moved there."""
    yield prefix + text
    lines = [line for line in prefix.split("\n") if line.strip()]
    last = lines[-1] if lines else ""
    margin = _indentation(last) + ("    " if last.rstrip().endswith(":") else "")
    head = prefix if prefix.endswith("\n") else prefix + "\n"
    yield head + margin + text.lstrip()
    body = text.strip("\n").split("\n")
    common = min((len(_indentation(line)) for line in body if line.strip()), default=0)
    yield head + "\n".join(margin + line[common:] for line in body)


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _tree(text: str) -> Any:
    """The text's tree without what does nothing; None where it is too large or too deep for one."""
    if len(text) > MAX_TREE:
        return None
    try:
        tree = _parsed(text)
    except (MemoryError, RecursionError):
        return None
    tree.body = [part for part in tree.body if not _inert(part)]
    return tree


def _parsed(text: str) -> Any:
    return compile(text, FILE, "exec", TREE)


def _parsed_or_none(text: str) -> Any:
    try:
        return _parsed(text)
    except UNREADABLE:
        return None


def _inert(part: Any) -> bool:
    """Whether a statement only looks names up and at most compares them, as `Sure, here` and `Note: simple` do."""
    if type(part).__name__ == "AnnAssign":
        return part.value is None
    if type(part).__name__ != "Expr":
        return False
    rest, named = [part.value], False
    while rest:
        node = rest.pop()
        kind = type(node).__name__
        if kind not in INERT:
            return False
        named |= kind == "Name"
        rest += [child for child in _children(node) if hasattr(child, "lineno")]
    return named


def _children(node: Any) -> list[Any]:
    found: list[Any] = []
    for field in node._fields:
        value = getattr(node, field, None)
        found += value if isinstance(value, list) else [value]
    return found


def _salvaged(text: str, names: Collection[str]) -> Any:
    """A tree of those parts that parse; None where they do not define one of the names."""
    parts = _parts(text)
    body: list[Any] = []
    budget, at, broken = MAX_PARSED, 0, False
    while at < len(parts):
        budget -= len(parts[at]) + 50
        found: Any = None
        end = at + 1
        try:
            found = _parsed(parts[at])
        except UNREADABLE as error:
            further, tried = _end(parts, at, str(error))
            whole = "\n".join(parts[at:further])
            budget -= tried + len(whole)
            if further > end and budget > 0:
                found = _parsed_or_none(whole)
                end = end if found is None else further
        if budget <= 0:
            return None
        if found is not None:
            body += [part for part in found.body if not _inert(part)]
            broken = broken and not any(set(_bound(part)) & set(names) for part in found.body)
        else:
            broken = broken or (end < len(parts) and _begins(parts[at], names))
        at = end
    last = max((n for n, part in enumerate(body) if set(_bound(part)) & set(names)), default=None)
    if last is None or broken:
        return None
    tree = _parsed("")
    # What follows are examples as likely as what it needs.
    tree.body = [part for n, part in enumerate(body) if n <= last or _settles(part)]
    try:
        compile(tree, FILE, "exec")
    except UNREADABLE:
        return None
    return tree


def _parts(text: str) -> list[str]:
    """The text, cut before every line that begins a statement, as far as that can be told without parsing."""
    parts: list[list[str]] = []
    decorated = False
    for line in text.split("\n"):
        if parts and (decorated or not line or line.startswith(CONTINUES)):
            parts[-1].append(line)
        else:
            parts.append([line])
        decorated = line.startswith("@") or (decorated and (not line or line[0] in " \t#)"))
    return ["\n".join(lines) for lines in parts]


def _end(parts: list[str], at: int, error: str) -> tuple[int, int]:
    """The part before which a statement may end that goes on at the left margin, in a text of three quotes or in
    brackets; and how many parts were looked at."""
    if "triple-quoted" in error:
        marks: tuple[str, ...] = ('"""', "'''")
    elif "never closed" in error:
        marks = ("\n)", "\n]", "\n}")
    else:
        return at + 1, 0
    for end in range(at + 1, min(len(parts), at + MAX_AHEAD)):
        if any(mark in parts[end] for mark in marks):
            return end + 1, end - at
    return at + 1, MAX_AHEAD


def _begins(part: str, names: Collection[str]) -> bool:
    """Whether a part that does not parse begins as a definition of one of the names."""
    words = part[:1000].replace("(", " ").replace(":", " ").split(None, 3)
    words = words[1:] if words[:1] == ["async"] else words
    return len(words) > 1 and words[0] in ("def", "class") and words[1] in names


def _settles(part: Any) -> bool:
    kind = type(part).__name__
    fixed = ("Constant", "List", "Tuple", "Dict", "Set", "UnaryOp")
    return kind in DEFINITIONS or (kind == "Assign" and type(part.value).__name__ in fixed)


def _bound(part: Any) -> list[str]:
    """The names that a statement binds at the margin."""
    kind = type(part).__name__
    if kind in ("Import", "ImportFrom"):
        return [(alias.asname or alias.name).split(".")[0] for alias in part.names]
    if kind in DEFINITIONS:
        return [part.name]
    targets = part.targets if kind == "Assign" else [part.target] if kind == "AnnAssign" else []
    return [name.id for target in targets for name in [target, *_children(target)] if type(name).__name__ == "Name"]


def _lacking(code: CodeType, tree: Any, helpers: Sequence[str]) -> list[CodeType]:
    """Code of the helpers' statements that define what a program uses and does not define; of several the last."""
    if not helpers or tree is None:
        return []
    own = {name for part in tree.body for name in _bound(part)}
    found: dict[str, tuple[int, CodeType]] = {}
    number = 0
    for helper in helpers:
        try:
            parts = _parsed(helper[:MAX_TREE]).body
        except UNREADABLE:
            continue
        for part in parts:
            if bound := _bound(part):
                alone = _parsed("")
                alone.body = [part]
                try:
                    found |= dict.fromkeys(bound, (number, compile(alone, FILE, "exec")))
                except UNREADABLE:
                    continue
                number += 1
    chosen: dict[int, CodeType] = {}
    rest = [code]
    while rest:
        for name in _names(rest.pop()):
            if name in found and name not in own and found[name][0] not in chosen:
                chosen[found[name][0]] = found[name][1]
                rest.append(found[name][1])
    return [chosen[n] for n in sorted(chosen)]


def _names(code: CodeType) -> list[str]:
    """The names that code looks up beyond its functions' own, and attributes."""
    names = list(code.co_names)
    for part in code.co_consts:
        if type(part) is type(code):
            names += _names(part)
    return names
