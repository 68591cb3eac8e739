"""Compiled code that Python writes: functions of values that are not there yet, which emit LLVM's instructions.

numba types and lowers every function by itself, a tenth of a second each. One that is `staged` runs as Python while
what calls it is compiled, its conditions and loops with it, and leaves nothing but the instructions. Import it late.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Self

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from automerge.merge.kernels.cpu_table import LANES

I1, I8, I16, I32, I64 = map(ir.IntType, (1, 8, 16, 32, 64))
FLOAT = ir.FloatType()
HALVES, WORDS, NUMBERS = (
    ir.VectorType(kind, count) for kind, count in ((I16, 2 * LANES), (I32, LANES), (FLOAT, LANES))
)


class _Words(types.Type):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name=f"words_{LANES}")


@register_model(_Words)
class _WordsModel(models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, WORDS)


words = _Words()  # a vector of LANES 32-bit words, as numba's type


class Value:
    """What an instruction gave: a number, or a vector of them. Operators emit the next; whole numbers are unsigned, a
    Python number beside a value is a constant of its type."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Any) -> Self:
        return self._both("fadd" if self._floats else "add", other)

    def __sub__(self, other: Any) -> Self:
        return self._both("fsub" if self._floats else "sub", other)

    def __mul__(self, other: Any) -> Self:
        return self._both("fmul" if self._floats else "mul", other)

    def __truediv__(self, other: Any) -> Self:
        return self._both("fdiv", other)

    def __and__(self, other: Any) -> Self:
        return self._both("and_", other)

    def __or__(self, other: Any) -> Self:
        return self._both("or_", other)

    def __xor__(self, other: Any) -> Self:
        return self._both("xor", other)

    def __invert__(self) -> Self:
        return self._made(self.builder.not_(self.value))

    def __lshift__(self, other: Any) -> Self:
        return self._both("shl", other)

    def __rshift__(self, other: Any) -> Self:
        return self._both("lshr", other)

    def __lt__(self, other: Any) -> Self:
        return self._compared("<", other)

    def __le__(self, other: Any) -> Self:
        return self._compared("<=", other)

    def __gt__(self, other: Any) -> Self:
        return self._compared(">", other)

    def __ge__(self, other: Any) -> Self:
        return self._compared(">=", other)

    def equals(self, other: Any) -> Self:
        return self._compared("==", other)

    def shifted_signed(self, bits: int) -> Self:
        """Shifted right, the sign bit filling up."""
        return self._both("ashr", bits)

    def where(self, then: Any, otherwise: Any) -> Self:
        """Of a comparison: `then` where it is true."""
        return self._made(self.builder.select(self.value, then.value, then.constant(otherwise)))

    def bits(self, kind: Any) -> Self:
        """The same bits as another type."""
        return self._made(self.builder.bitcast(self.value, kind))

    def wide(self, kind: Any, *, signed: bool = False) -> Self:
        """As a type of more bits."""
        return self._made((self.builder.sext if signed else self.builder.zext)(self.value, kind))

    def narrow(self, kind: Any) -> Self:
        """The lower bits."""
        return self._made(self.builder.trunc(self.value, kind))

    def fill(self) -> Self:
        """A vector of it."""
        kind = ir.VectorType(self.value.type, LANES)
        empty = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(empty, self.value, I32(0))
        return self._made(self.builder.shuffle_vector(first, empty, ir.Constant(WORDS, [0] * LANES)))

    def lane(self, index: int) -> Self:
        """One of a vector's."""
        return self._made(self.builder.extract_element(self.value, I32(index)))

    def lanes(self, indices: Iterable[int]) -> Self:
        """A vector of some of a vector's."""
        chosen, empty = list(indices), ir.Constant(self.value.type, ir.Undefined)
        mask = ir.Constant(ir.VectorType(I32, len(chosen)), chosen)
        return self._made(self.builder.shuffle_vector(self.value, empty, mask))

    def constant(self, number: Any) -> Any:
        """LLVM's value of a Value, or of a Python number of this type."""
        if isinstance(number, Value):
            return number.value
        kind = self.value.type
        return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)

    def other(self, number: Any) -> Self:
        """A Python number, or a list of them for a vector, as a Value of this type."""
        return self._made(ir.Constant(self.value.type, number) if isinstance(number, list) else self.constant(number))

    @property
    def _floats(self) -> bool:
        kind = self.value.type
        return bool((kind.element if isinstance(kind, ir.VectorType) else kind) == FLOAT)

    def _made(self, value: Any) -> Self:
        return type(self)(self.builder, value)

    def _both(self, instruction: str, other: Any) -> Self:
        return self._made(getattr(self.builder, instruction)(self.value, self.constant(other)))

    def _compared(self, how: str, other: Any) -> Self:
        """False for what is no number."""
        compare = self.builder.fcmp_ordered if self._floats else self.builder.icmp_unsigned
        return self._made(compare(how, self.value, self.constant(other)))


LITERAL, ANY = object(), object()  # types of arguments: a Python number; whatever is given


def staged(result: Any, *arguments: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator: a function of Values, to be called in compiled code with such types of numba's, and giving that one.

    Tuples come and go as tuples of Values; an array comes as a function from an index, a Value, to the item; what is
    LITERAL as a Python number, which has to be a constant of the caller. `result` may be a function of these numbers.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        def typed(context: Any, *given: Any) -> Any:
            numbers = [kind.literal_value for kind, wanted in zip(given, arguments, strict=True) if wanted is LITERAL]
            kinds = [
                kind if wanted in (LITERAL, ANY) else wanted for kind, wanted in zip(given, arguments, strict=True)
            ]
            gives = result if isinstance(result, types.Type) else result(*numbers)
            return gives(*kinds), emit

        def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            taken = [_taken(context, builder, *pair) for pair in zip(signature.args, values, strict=True)]
            made = function(*taken)
            return _given(context, builder, signature.return_type, made)

        # numba wants every argument by name
        names = ["context", *inspect.signature(function).parameters]
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        typed.__name__, typed.__signature__ = function.__name__, inspect.Signature(parameters)  # type: ignore[attr-defined]
        return intrinsic(prefer_literal=True)(typed)

    return decorate


def _taken(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """An argument, as the function takes it."""
    if isinstance(kind, types.Literal):
        return kind.literal_value
    if isinstance(kind, types.BaseTuple):
        parts = [
            _taken(context, builder, *part) for part in zip(kind, cgutils.unpack_tuple(builder, value), strict=True)
        ]
        return kind.instance_class(*parts) if isinstance(kind, types.BaseNamedTuple) else tuple(parts)
    if isinstance(kind, types.Array):
        first = context.make_array(kind)(context, builder, value).data
        return lambda index: Value(builder, builder.load(builder.gep(first, [index.value])))
    return Value(builder, value)


def _given(context: Any, builder: Any, kind: Any, made: Any) -> Any:
    """A result, as the caller takes it."""
    if isinstance(kind, types.BaseTuple):
        parts = [_given(context, builder, *part) for part in zip(kind, made, strict=True)]
        return context.make_tuple(builder, kind, parts)
    return context.get_dummy_value() if made is None else made.value
