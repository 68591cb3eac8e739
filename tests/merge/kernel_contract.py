"""What every kernel must do: give the reference's bytes, checksums and flags. Subclassed where a kernel is tested.

So are tested: the CPU's kernel at one thread and at two (test_cpu_kernel.py); the Triton kernel by its interpreter
(triton_interpreted.py) and, where there is one, on a GPU (tests/gpu).
"""

import os
from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from automerge.errors import MergeError
from automerge.merge.checksum import TensorSum
from automerge.merge.kernels import reference
from automerge.merge.kernels.job import Job, Segment, whole
from automerge.merge.masks import BLOCK, MaskStream
from automerge.merge.plan import Drop, Plan, Term
from automerge.merge.values import Operand
from tests.merge.kernel_cases import CASES, DTYPES, MASKS, Case, Source, check, job_of, on, shard

SLOW = os.environ.get("TRITON_INTERPRET") == "1"
EXAMPLES = settings(
    max_examples=20 if SLOW else 100,
    phases=[Phase.explicit, Phase.reuse, Phase.generate] if SLOW else list(Phase),  # to shrink takes it minutes
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
BF16 = torch.bfloat16
PLAIN = Plan("delta", ())


# numpy, which the interpreter computes with, warns of the infinities that some cases are about
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
class KernelContract:
    device: str

    def kernel(self, jobs: list[Job]) -> list[bool]:
        """The kernel, told to work in small chunks where it can be told."""
        raise NotImplementedError

    @EXAMPLES
    @given(st.lists(CASES, min_size=1, max_size=3))
    def test_random_jobs(self, cases: list[Case]) -> None:
        check(self.kernel, [job_of(case, f"t{i}") for i, case in enumerate(cases)], self.device)

    @pytest.mark.parametrize("mask", MASKS)
    def test_every_flag(self, mask: str) -> None:
        votes = [(False, False, 1.0), (False, False, 0.6), (True, False, 1.0), (True, True, 1.0)]
        jobs = []
        for i, (vote, (base, factor)) in enumerate(product(votes, [(0.0, 0.7), (1.0, 1.0), (0.8, 0.7)])):
            elect, divide, divisor = vote
            sources = (
                Source(DTYPES[i % 3], mask, 0.5),
                Source(BF16, mask, -1 / 3),
                Source(torch.float32, mask, 1.0, True),
            )
            plan = Plan(("delta", "weights")[i % 2], (), elect, divide, divisor, base, factor)
            jobs.append(job_of(Case(i, 150, BF16, DTYPES[i // 3 % 3], sources, plan)))
        check(self.kernel, jobs, self.device)

    def test_a_tied_vote_elects_plus(self) -> None:
        sources = (Source(BF16, "none", 0.5), Source(BF16, "none", -0.5))
        job = job_of(Case(2, 150, BF16, BF16, sources, replace(PLAIN, elect=True)))
        job.operands[1].values.copy_(job.operands[0].values)
        check(self.kernel, [job], self.device)
        assert bool((job.out >= job.base).all()) and not torch.equal(job.out, job.base)

    def test_a_sum_begins_at_plus_zero(self) -> None:
        source = Source(BF16, "none", 0.5)
        job = job_of(Case(2, 40, BF16, BF16, (source,), replace(PLAIN, operand="weights", base=0.0)))
        job.operands[0].values.fill_(-0.0)
        check(self.kernel, [job], self.device)
        assert not bool(torch.signbit(job.out).any())

    def test_segments_that_begin_and_end_inside_pairs(self) -> None:
        """Of fp32 elements, which are words of their own; a chunk of elements takes half a pair more then."""
        job = job_of(Case(4, 400, BF16, torch.float32, (Source(BF16, "drop", 0.5),), PLAIN))
        segments = (Segment(0, 0, 1), Segment(1, 1, 128), Segment(129, 129, 256), Segment(385, 385, 15))
        check(self.kernel, [replace(job, segments=segments)], self.device)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_sizes(self, dtype: torch.dtype) -> None:
        sizes = [0, 1, 2, 3, 15, 16, 17, 127, 128, 129, 145, 256, 600]
        sources = (Source(dtype, "drop", 0.5), Source(dtype, "drop", 0.25))
        check(self.kernel, [job_of(Case(n, n, dtype, dtype, sources, PLAIN), f"t{n}") for n in sizes], self.device)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_rounding(self, dtype: torch.dtype) -> None:
        """To nearest even, once: ties, subnormals, zeros of both signs, the largest numbers and what lies beyond."""
        values = [0x00000000, 0x00000001, 0x00007FFF, 0x00008000, 0x00008001, 0x00018000, 0x007FFFFF, 0x00800000]
        values += [0x32FFFFFF, 0x33000000, 0x33000001, 0x33800000, 0x33C00000, 0x387FC000, 0x387FE000, 0x38800000]
        values += [0x3F808000, 0x3F818000, 0x3F807FFF, 0x3F808001, 0x3F801000, 0x3F803000, 0x3F801001, 0x477FDFFF]
        values += [0x477FEFFF, 0x477FF000, 0x7F7F0000, 0x7F7F7FFF, 0x7F7F8000, 0x7F7FFFFF, 0x7F800000]
        bits = torch.tensor([sign | value for value in values for sign in (0, 0x80000000)], dtype=torch.int64)
        numbers = bits.to(torch.int32).view(torch.float32)
        jobs = []
        for i, number in enumerate(numbers):  # one job each: each has its own flag
            out = torch.zeros(3, dtype=dtype)
            base = torch.tensor([1.0, float(number), -0.0])
            jobs.append(Job(f"t{i}", PLAIN, base, (), out, whole(3), TensorSum(f"t{i}", dtype, (3,))))
        check(self.kernel, jobs, self.device)

    def test_many_numbers_are_rounded_alike(self) -> None:
        random = torch.Generator().manual_seed(0)
        bits = torch.randint(-(2**31), 2**31, (2048,), generator=random).to(torch.int32)
        numbers = torch.nan_to_num(bits.view(torch.float32), 0.0, 1.0, -1.0)
        for dtype, scale in ((BF16, 1.0), (torch.float16, 1.0), (torch.float16, 2.0**-112)):
            out = torch.zeros(2048, dtype=dtype)
            job = Job("t", replace(PLAIN, base=scale), numbers, (), out, whole(2048), TensorSum("t", dtype, (2048,)))
            check(self.kernel, [job], self.device)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_keys_change_at_the_block(self, dtype: torch.dtype) -> None:
        case = Case(
            3, 64, dtype, dtype, (Source(dtype, "drop", 1.0), Source(dtype, "ranked", 1.0)), PLAIN, flat=BLOCK - 32
        )
        check(self.kernel, [job_of(case)], self.device)

    @pytest.mark.parametrize(("dim", "cuts"), [(0, (0, 3, 4, 8)), (1, (0, 16, 20, 48))])
    def test_shards_add_up(self, dim: int, cuts: tuple[int, ...]) -> None:
        shape = (8, 48)
        sources = (Source(BF16, "drop", 0.5), Source(BF16, "ranked", 1.0))
        job = job_of(Case(5, 8 * 48, BF16, BF16, sources, replace(PLAIN, elect=True, divide=True)))
        job = replace(job, total=TensorSum("t", BF16, shape))
        here = on(job, self.device)
        parts = []
        for start, stop in pairwise(cuts):
            parts.append(shard(here, shape, dim, start, stop, TensorSum("t", BF16, shape)))
        assert self.kernel(parts) == [True] * len(parts)
        assert reference.run([job]) == [True]
        for part in parts:
            here.total.add_sums(part.total.a, part.total.b)
        sizes = [stop - start for start, stop in pairwise(cuts)]
        pieces = [
            part.out.view(*(size if d == dim else s for d, s in enumerate(shape)))
            for part, size in zip(parts, sizes, strict=True)
        ]
        assert torch.equal(torch.cat(pieces, dim).cpu().view(-1), job.out)
        assert here.total.hexdigest() == job.total.hexdigest()

    def test_only_the_job_with_an_infinity_is_named(self) -> None:
        jobs = [job_of(Case(i, 300, BF16, BF16, (Source(BF16, "none", 0.5),), PLAIN), f"t{i}") for i in range(3)]
        jobs[1].base[299] = float("inf")
        jobs[1].operands[0].values[299] = 1.0
        jobs[2].base[7] = float("nan")
        theirs = [on(job, self.device) for job in jobs]
        assert self.kernel(theirs) == [True, False, False]

    def test_only_scalars_change(self) -> None:
        """The same buffers again with other weights, drop levels and keys, as in a search."""
        job = on(
            job_of(Case(1, 300, BF16, BF16, (Source(BF16, "drop", 0.5), Source(BF16, "drop", 0.5)), PLAIN)), self.device
        )
        for seed in range(3):
            terms = tuple(
                Term(f"s{i}", 0.3 + seed, 0.5, Drop(9000 * seed, MaskStream(seed, f"s{i}", "t"))) for i in (0, 1)
            )
            plan = replace(PLAIN, terms=terms)
            mine = replace(on(job, "cpu"), plan=plan)
            again = replace(job, plan=plan, total=TensorSum("t", BF16, (300,)))
            assert self.kernel([again]) == reference.run([mine])
            assert torch.equal(again.out.cpu(), mine.out)
            assert again.total.hexdigest() == mine.total.hexdigest()

    def test_no_jobs(self) -> None:
        assert self.kernel([]) == []

    def test_a_pair_cut_in_two_is_refused(self) -> None:
        job = on(job_of(Case(0, 20, BF16, BF16, (), PLAIN)), self.device)
        with pytest.raises(MergeError, match="elements 0 to 7 begin or end inside a pair"):
            self.kernel([replace(job, segments=(Segment(0, 0, 7), Segment(7, 7, 13)))])

    def test_what_no_kernel_reads_is_refused(self) -> None:
        values = on(job_of(Case(0, 20, BF16, BF16, (Source(BF16, "none", 1.0),), PLAIN)), self.device).base
        wider = torch.cat([values, values])
        self.refuses(values.double(), r"expected .*float32, bfloat16 or float16.*, got .*float64")
        self.refuses(wider[::2], "expected 20 contiguous elements of .*, got 20 of bfloat16 on .*, not contiguous")
        self.refuses(wider, "expected 20 contiguous elements of .*, got 40 of bfloat16")
        self.refuses(values.to("meta"), "expected .*, got .*meta")
        self.refuses(values, "expected 20 contiguous elements of float32 on .*, got 20 of bfloat16", is_delta=True)

    def refuses(self, values: Tensor, message: str, *, is_delta: bool = False) -> None:
        job = on(job_of(Case(0, 20, BF16, BF16, (Source(BF16, "none", 1.0),), PLAIN)), self.device)
        with pytest.raises(MergeError, match=message):
            self.kernel([replace(job, operands=(Operand(values, is_delta),))])

    def test_terms_without_operands_and_segments_outside_are_refused(self) -> None:
        job = on(job_of(Case(0, 20, BF16, BF16, (Source(BF16, "none", 1.0),), PLAIN)), self.device)
        with pytest.raises(MergeError, match="the plan has 1 terms, got 0 operands"):
            self.kernel([replace(job, operands=())])
        with pytest.raises(MergeError, match="lies outside buffers of 20 elements"):
            self.kernel([replace(job, segments=(Segment(4, 4, 18),))])
