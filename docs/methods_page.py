"""The text of docs/methods.md, from what the methods themselves declare."""

import inspect
import sys

from automerge.merge import Method, get_method, method_names

HEAD = """# Merge methods

Made by `python docs/generate.py` from the methods themselves; the tests refuse an old page.

θ is the base, x_i a source, δ_i = x_i − θ its delta, w_i its `weight`, λ `lambda`, n the elements of a tensor. A
parameter of scope *source* has one value a source, one of scope *merge* a single one; both may differ by layer and kind
of module. Where mergekit means something else by a method of the same name, the option `dialect` chooses between the
papers' semantics and mergekit's.

| method | merges | sources |
|---|---|---|
"""


def methods_page() -> str:
    """The whole page."""
    methods = [get_method(name) for name in method_names()]
    rows = [f"| [`{m.name}`](#{m.name}) | {m.about} | {_arity(m)} |\n" for m in methods]
    return HEAD + "".join(rows) + "".join(_section(method) for method in methods)


def _arity(method: Method) -> str:
    fewest, most = method.sources
    if most is None:
        return f"{fewest} or more"
    return str(fewest) if fewest == most else f"{fewest} to {most}"


def _section(method: Method) -> str:
    text = inspect.cleandoc(sys.modules[method.plan.__module__].__doc__ or "")
    parts = [f"\n## {method.name}\n", _markdown(text)]
    if method.parameters:
        parts.append("| parameter | scope | default | limits | range to search | |\n|---|---|---|---|---|---|")
        for p in method.parameters:
            low, high = p.suggested
            parts.append(f"| `{p.name}` | {p.scope} | {p.default:g} | {p.limits} | {low:g} to {high:g} | {p.about} |")
        parts.append("")
    if method.options:
        parts.append("| option | values | default | |\n|---|---|---|---|")
        for o in method.options:
            default = _word(o.default) if o.mergekit is None else f"{_word(o.default)} (mergekit: {_word(o.mergekit)})"
            parts.append(f"| `{o.name}` | {', '.join(o.choices) or 'true, false'} | {default} | {o.about} |")
        parts.append("")
    return "\n".join(parts)


def _word(value: bool | str) -> str:
    return str(value).lower() if isinstance(value, bool) else value


def _markdown(text: str) -> str:
    """Indented lines, the formulas, stand as code with an empty line around them."""
    lines: list[str] = []
    for line in text.splitlines():
        if lines and lines[-1] and line and line.startswith("    ") != lines[-1].startswith("    "):
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"
