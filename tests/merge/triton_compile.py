"""Compiles the device code for NVIDIA's Hopper, on any machine. test_triton_kernel.py runs it in its own process.

    python -m tests.merge.triton_compile FOLDER NAME…

Writes NAME.ptx and, where triton brings the disassembler, NAME.sass (the machine's instructions) for each
specialisation named; without arguments it prints their names.
"""

import subprocess
import sys
from itertools import product
from pathlib import Path

from automerge.merge.kernels.cuda_kind import (
    ABSENT,
    BAND,
    BF16,
    DROP,
    FP16,
    FP32,
    FULL,
    KEEP,
    NARROW,
    PARTIAL,
    RANKED,
    SCALED,
    UNIT,
    Kind,
)

DARE = Kind(BF16, BF16, ((BF16, False, DROP),) * 2, delta=True, elect=False, divide=False, base_part=UNIT, scaled=False)
EVERY_MASK = ((BF16, False, DROP), (FP16, False, BAND), (FP32, True, RANKED), (FP32, False, KEEP))
READS = {"full": FULL, "partial": PARTIAL, "narrow": NARROW}
OUTS = {"fp32": FP32, "bf16": BF16, "fp16": FP16}
VOTES = {"sum": (False, False), "divisor": (False, True), "elect": (True, False), "share": (True, True)}


def specialisations() -> dict[str, tuple[Kind, int]]:
    """Name → (kind, how memory is read)."""
    found = {f"dare-{name}": (DARE, read) for name, read in READS.items()}
    for (out_name, out), (vote, (elect, divide)), (read_name, read) in product(
        OUTS.items(), VOTES.items(), READS.items()
    ):
        base_part, delta = (SCALED, True) if out == BF16 else (ABSENT, False) if out == FP32 else (UNIT, True)
        kind = Kind(out, out, EVERY_MASK, delta, elect, divide, base_part, scaled=True)
        found[f"{vote}-{out_name}-{read_name}"] = (kind, read)
    return found


LOW_RANK = "low-rank"


def write_low_rank(folder: Path) -> None:
    """The device code that forms an adapter's delta."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from automerge.merge.sources import lowrank_cuda
    from automerge.merge.sources.lowrank_device import fill_tile

    constants = {"ROWS": lowrank_cuda.ROWS, "COLUMNS": lowrank_cuda.COLUMNS}
    types = dict.fromkeys(("left", "right", "out"), "*fp32") | {"scale": "fp32"}
    types |= dict.fromkeys(("rank", "n", "m"), "i32") | dict.fromkeys(constants, "constexpr")
    options = {"num_warps": lowrank_cuda.WARPS, "enable_fp_fusion": False}
    made = triton.compile(ASTSource(fill_tile, types, constants), target=GPUTarget("cuda", 90, 32), options=options)
    (folder / f"{LOW_RANK}.ptx").write_text(made.asm["ptx"])


def write(folder: Path, name: str) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from automerge.merge.kernels import cuda
    from automerge.merge.kernels.cuda_device import merge_pairs

    kind, read = specialisations()[name]
    constants = cuda.constants(kind, read, kind.pairs(cuda.PAIRS), hardware=True)
    types = {"owners": "*i32", "segments": "*i64", "rows": "*i32", "results": "*i64"}
    types |= dict.fromkeys(constants, "constexpr")
    aligned = {(argument,): [["tt.divisibility", 16]] for argument in range(4)}
    options = {"num_warps": cuda.WARPS, "enable_fp_fusion": False}
    source = ASTSource(merge_pairs, types, constants, aligned)
    made = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    (folder / f"{name}.ptx").write_text(made.asm["ptx"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if tool.exists():
        binary = folder / f"{name}.cubin"
        binary.write_bytes(made.asm["cubin"])
        sass = subprocess.run([tool, "-sass", "-res-usage", binary], capture_output=True, text=True, check=True)
        (folder / f"{name}.sass").write_text(sass.stdout)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        print("\n".join(specialisations()))
    for chosen in sys.argv[2:]:
        if chosen == LOW_RANK:
            write_low_rank(Path(sys.argv[1]))
        else:
            write(Path(sys.argv[1]), chosen)
