"""The checksum of a tensor that is there already: what checksum.tensor_sum gives, by compiled code and threads."""

import numpy as np
from torch import Tensor

from automerge.merge.checksum import U64, TensorSum
from automerge.merge.kernels.cpu import share_out

CHUNK = 1 << 14  # words


def tensor_sum(name: str, tensor: Tensor) -> TensorSum:
    """The finished sum of a contiguous CPU tensor. Raises MergeError for a dtype that has no checksum."""
    from automerge.merge.kernels.cpu_sum_loop import sum_chunk

    done = TensorSum(name, tensor.dtype, tuple(tensor.shape))
    flat = tensor.view(-1)
    words = flat.numel() * flat.element_size() // 4
    starts = range(0, words, CHUNK)
    sums = np.zeros((len(starts), 2), np.int64)
    address = flat.data_ptr()

    def task(number: int, start: int) -> None:
        sum_chunk(address + 4 * start, min(CHUNK, words - start), start, sums[number])

    share_out([lambda n=n, s=s: task(n, s) for n, s in enumerate(starts)], None)  # type: ignore[misc]
    for total, placed in sums.tolist():
        done.add_sums(total & U64, placed & U64)
    if flat.numel() * flat.element_size() % 4:  # a last 16-bit element alone
        done.add(flat[-1:], flat.numel() - 1)
    return done
