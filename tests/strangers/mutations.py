"""Files as a careless or hostile stranger would have them: a good one with some places changed."""

import copy
import json
import random
import struct
from pathlib import Path
from typing import Any

ODD: list[Any] = [
    *(None, True, 0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1.5, -0.0, 1e308, float("inf"), float("nan")),
    *("", "x", "../../etc/passwd", "/etc/passwd", "\0", "\ud800", "a" * 5000, "{{ x }}", "(a+)+$", "∞", "1e999"),
    *([], {}, [[]], [None], {"": None}, {"a": {"b": []}}, ["x"] * 50, [0.5, 1.0]),
]


def changed(tree: Any, chance: random.Random) -> Any:
    """A copy of a JSON tree with one to three places replaced, dropped, doubled or renamed."""
    tree = json.loads(json.dumps(tree))
    for _ in range(chance.randint(1, 3)):
        holder = {"": tree}
        at: Any = holder
        key: Any = ""
        while isinstance(at[key], dict | list) and at[key] and chance.random() < 0.8:
            at = at[key]
            key = chance.choice(list(at)) if isinstance(at, dict) else chance.randrange(len(at))
        what = chance.random()
        if what < 0.6 or at is holder:
            at[key] = copy.deepcopy(chance.choice(ODD))
        elif what < 0.8:
            del at[key]
        elif isinstance(at, dict):
            at[chance.choice(["", "unknown", key + "_", "__class__"])] = at[key]
        else:
            at.append(at[key])
        tree = holder[""]
    return tree


def spoilt(content: bytes, chance: random.Random) -> bytes:
    """Bytes with a run of them cut out, doubled or overwritten, or the end cut off."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(data) + 1)
        stop = min(len(data), start + chance.choice([1, 1, 2, 8, 100]))
        what = chance.randrange(4)
        if what == 0:
            del data[start:stop]
        elif what == 1:
            data[start:start] = data[start:stop]
        elif what == 2:
            data[start:stop] = bytes(chance.randrange(256) for _ in range(stop - start))
        else:
            del data[start:]
    return bytes(data)


def with_header(path: Path, chance: random.Random) -> bytes:
    """A safetensors file whose header was changed, and its length put right or not."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.dumps(changed(json.loads(content[8 : 8 + length]), chance)).encode("utf-8", "surrogatepass")
    claimed = len(header) if chance.random() < 0.8 else chance.choice([0, 1, len(header) + 1, 2**31, 2**63])
    return struct.pack("<Q", claimed) + header + content[8 + length :]
