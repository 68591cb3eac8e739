"""A merge made by several ranks together is the merge, bytes and checksum; each rank keeps its own part alone."""

import pytest
import torch

from automerge.merge import Merge, Models, method_names
from automerge.merge.checksum import ModelSum, TensorSum
from automerge.merge.share import part, part_length
from automerge.recipe import Group, Recipe
from tests.merge.helpers import recipe_of
from tests.merge.test_same_bytes import everything, small
from tests.merge.threads import ThreadShare, together

__all__ = ["small"]


def by_ranks(recipe: Recipe, models: Models, ranks: int) -> tuple[list[dict[str, torch.Tensor]], str]:
    """What each rank gets, and the checksum of what they computed together."""

    def work(share: ThreadShare) -> tuple[dict[str, torch.Tensor], list[TensorSum]]:
        merge = Merge(recipe, models, share=share, batch_bytes=1000)
        found = {name: tensor.clone() for name, tensor, finite in merge.judged_tensors() if finite}
        return found, merge.totals

    done = together(ranks, work)
    sums = ModelSum()
    for totals in zip(*(totals for _, totals in done), strict=True):
        first = totals[0]
        for other in totals[1:]:
            first.add_sums(other.a, other.b)
        sums.add(first)
    return [found for found, _ in done], sums.hexdigest()


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("method", method_names())
def test_every_method(small: Models, method: str, ranks: int) -> None:
    for recipe in everything(small, method, "bfloat16"):
        merge = Merge(recipe, small)
        wanted = dict(merge.tensors())
        every, checksum = by_ranks(recipe, small, ranks)
        assert checksum == merge.checksum
        for found in every:
            assert found.keys() == wanted.keys()
            for name, tensor in wanted.items():
                assert tensor.shape == found[name].shape and tensor.view(-1).view(torch.int16).equal(
                    found[name].view(-1).view(torch.int16)
                ), name


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_adapters_and_other_dtypes(family: Models, dtype: str) -> None:
    for recipe in everything(family, "dare_ties", dtype):
        merge = Merge(recipe, family)
        wanted = dict(merge.tensors())
        every, checksum = by_ranks(recipe, family, 2)
        assert checksum == merge.checksum
        assert all(torch.equal(found[name], tensor) for found in every for name, tensor in wanted.items())


def test_held_sources_are_not_read_again(small: Models) -> None:
    recipe = everything(small, "dare_linear", "bfloat16")[0]

    def work(share: ThreadShare) -> int:
        merge = Merge(recipe, small, share=share)
        merge.hold()
        held = dict(share.took)
        for _ in merge.judged_tensors():
            pass
        assert share.took.keys() == held.keys()
        return sum(tensor.numel() for tensor in held.values())

    sizes = together(2, work)
    whole = 4 * sum(torch.Size(shape).numel() for shape in small.shapes.values())  # the base and three sources
    assert sum(sizes) == whole and max(sizes) - min(sizes) <= 4 * 2 * len(small.shapes)


def test_adapters_are_not_held(family: Models) -> None:
    """Their factors are small; a delta is formed when it is needed."""
    recipe = recipe_of(family, "linear")  # whose sum has every source, whether it changes the tensor or not

    def work(share: ThreadShare) -> set[str]:
        merge = Merge(recipe, family, share=share)
        merge.hold()
        assert sum(1 for _ in merge.judged_tensors()) == len(family.shapes)
        return {key[0] for key in share.took}

    digests = {ref.name: ref.digest for ref in (family.base_ref, *family.source_refs)}
    assert together(1, work) == [{digests[name] for name in ("base", "code", "writing")}]


def test_ranks_are_told_of_each_others_values_that_are_not_finite(small: Models) -> None:
    groups = tuple(
        Group((layer, layer + 1), "all", {"weight": dict.fromkeys(small.sources, 1000.0), "lambda": 1000.0})
        for layer in range(small.n_layers)
    )
    recipe = recipe_of(small, "task_arithmetic", groups=groups, dtype="float16")

    def work(share: ThreadShare) -> list[bool]:
        return [finite for _, _, finite in Merge(recipe, small, share=share).judged_tensors()]

    one, two = together(2, work)
    assert len(one) == len(two) == len(small.shapes)
    assert not all(a and b for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_parts_are_even_and_cover_everything(ranks: int) -> None:
    for n in (0, 1, 2, 3, 7, 16, 101):
        parts = [part(n, rank, ranks) for rank in range(ranks)]
        assert [start for start, _ in parts] == [0, *(stop for _, stop in parts[:-1])]
        assert parts[-1][1] == n
        assert all(start % 2 == 0 or start == n for start, _ in parts)
        assert part_length(n, ranks) * ranks >= n
