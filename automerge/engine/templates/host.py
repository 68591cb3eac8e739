"""The child process that templates are compiled and rendered in, one after another, until its parent ends.

A request is a pickled list of (kind, source, fields), each of which has a reply of its own. Replies are JSON, so that
nothing a template makes is unpickled. Compiling counts too: Jinja evaluates constant expressions then.
"""

import json
import math
import pickle
import resource
import sys
import time
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from jinja2 import Template, TemplateError, TemplateSyntaxError, UndefinedError

from automerge.engine.templates.environments import NullValue, chat_environment, skill_environment

CPU_SECONDS = 5  # a template; honest ones take milliseconds
MEMORY_BYTES = 512 * 2**20  # of address space, the interpreter's own among them
MAX_TEXT = 4 * 2**20  # characters that a template may give

_environments = {"skill": skill_environment(), "chat": chat_environment()}


def main() -> None:
    """Serves the socket whose number is the last argument."""
    calls = Connection(int(sys.argv[-1]))
    with suppress(ValueError, OSError):  # macOS has no such limit; the other two hold there
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while True:
        try:
            for job in pickle.loads(calls.recv_bytes()):
                _allow(CPU_SECONDS)
                calls.send_bytes(reply(*job))
        except (EOFError, OSError):
            return


def reply(kind: str, source: str, fields: dict[str, Any] | None) -> bytes:
    """JSON: {"text"} or {"failed", "message"}. Without fields the template is compiled alone."""
    try:
        template = _compiled(kind, source)
        text = "" if fields is None else template.render(fields)
        if len(text) > MAX_TEXT:
            return _failed("limit", f"gives {len(text):,} characters, more than {MAX_TEXT:,}")
        text.encode()  # half a surrogate pair is no text
        return json.dumps({"text": text}).encode()
    except MemoryError:
        return _failed("limit", f"takes more than {MEMORY_BYTES >> 20} MiB of memory")
    except TemplateSyntaxError as error:
        return _failed("syntax", f"line {error.lineno}: {error.message}")
    except NullValue:
        return _failed("null", "")
    except UndefinedError as error:
        return _failed("undefined", error.message or "")
    except TemplateError as error:  # SecurityError among them
        return _failed("refused", str(error))
    except Exception as error:
        return _failed("error", f"{type(error).__name__}: {error}")


@cache
def _compiled(kind: str, source: str) -> Template:
    return _environments[kind].from_string(source)


def _failed(kind: str, message: str) -> bytes:
    return json.dumps({"failed": kind, "message": message[:2000]}).encode()


def _allow(seconds: int) -> None:
    """So many seconds of CPU time from now on; the kernel ends the process after them."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    until = math.ceil(time.process_time() + seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (until if hard == resource.RLIM_INFINITY else min(until, hard), hard))
