"""Where each tensor of a sparse model comes from: a dense model's tensors, laid out anew. It knows no values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from automerge.errors import ConfigError
from automerge.merge.layout import place_of
from automerge.merge.sparse.family import GATED, Family

Kind = Literal["kept", "expert", "shared", "router", "shared_router", "zeros"]


@dataclass(frozen=True)
class Laid:
    """One tensor. `origin` is the dense tensor it is; "" for router rows, and for biases of zero that the family must
    have and the dense model lacks. `number` is an expert's, `layer` −1 outside the layers."""

    name: str
    shape: tuple[int, ...]
    kind: Kind
    layer: int
    origin: str = ""
    number: int = 0


def lay_out(
    family: Family, names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], experts: int, shared: int, where: str
) -> Iterator[Laid]:
    """Every tensor, in the order of the dense `names`. Raises ConfigError for one that the family has no place for."""
    width = hidden_size(shapes)
    for name in names:
        layer, part, shape = place_of(name).layer, projection(name), tuple(shapes[name])
        if layer is None:
            yield Laid(name, shape, "kept", -1, name)
        elif part is None:
            if not name.endswith(family.carries):
                hint = "Choose another architecture: this one would compute without it."
                raise ConfigError(f"{family.name} has no place for {name}", where=where, hint=hint)
            yield Laid(name, shape, "kept", layer, name)
            bias = name.removesuffix("weight") + "bias"
            if bias not in shapes and bias.endswith(family.added or ("\0",)):
                yield Laid(bias, shape[:1], "zeros", layer)
        else:
            for number in range(experts):
                yield Laid(family.expert_tensor(layer, number, part), shape, "expert", layer, name, number)
            for number in range(shared):
                yield Laid(family.shared_tensor(layer, part), shape, "shared", layer, name, number)
            if part == GATED[0]:
                yield Laid(family.router_tensor(layer), (experts, width), "router", layer)
                if family.shared_is_gated:
                    yield Laid(family.shared_router_tensor(layer), (1, width), "shared_router", layer)


def projection(name: str) -> str | None:
    """Which of the feed-forward part's weights a dense model's tensor is; None: it is none of them."""
    return next((each for each in GATED if name.endswith(f".mlp.{each}.weight")), None)


def hidden_size(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The width of what a feed-forward part is given. Raises ConfigError for a model that has none of this kind."""
    for name, shape in shapes.items():
        if projection(name) == GATED[0]:
            return int(shape[1])
    raise ConfigError(f"experts are feed-forward parts of {', '.join(GATED)}; this model has none")
