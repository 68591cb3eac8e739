"""Where the commands print."""

from rich.console import Console


def make_console(*, stderr: bool = False) -> Console:
    """Prints text as it is: no name, prompt or answer is taken for rich's markup, however it looks ([/INST], d[k])."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
