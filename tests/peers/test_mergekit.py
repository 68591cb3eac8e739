"""The peer test: mergekit itself, in its own environment, and automerge merge the same checkpoints from the same YAML.

What each config is expected to give stands in expected.py. By default every config runs on Llama, and on every other
architecture those that are sensitive to names and layouts; all on all is marked `full`.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.peers import compare, expected, real
from tests.peers.judge import judge, merge_ours
from tests.peers.peer import NO_PEER, Job, config_names, fill, peer_python, run_mergekit
from tests.peers.pico import ARCHITECTURES, pico_family

LAYOUT = ("task_arithmetic", "slerp", "passthrough", "slices_gradient")  # run everywhere
# mergekit sets the number of layers of a stack and leaves the list of layer types as it was; transformers refuses that.
# The tensors are written before.
NO_DEEP_STACK = ("qwen2", "qwen2.5", "qwen3", "gemma2", "gemma3")
# What automerge cannot do yet, or does in another way; a test here that passes is an error.
NOT_YET: dict[str, str] = {}

pytestmark = pytest.mark.skipif(peer_python() is None, reason=NO_PEER)


def marks(config: str, architecture: str) -> list[pytest.MarkDecorator]:
    found = [] if architecture == "llama" or config in LAYOUT else [pytest.mark.full]
    return [*found, pytest.mark.xfail(reason=NOT_YET[config], strict=True)] if config in NOT_YET else found


PAIRS = [
    pytest.param(config, architecture, marks=marks(config, architecture))
    for architecture in ARCHITECTURES
    for config in config_names()
]


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Path]]:
    made: dict[str, dict[str, Path]] = {}

    def family(architecture: str) -> dict[str, Path]:
        if architecture not in made:
            made[architecture] = pico_family(tmp_path_factory.mktemp("pico") / architecture, architecture)
        return made[architecture]

    return family


@pytest.fixture(scope="module")
def merged(
    request: pytest.FixtureRequest,
    families: Callable[[str], dict[str, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[tuple[str, str], tuple[Path, Path, str | None]]:
    """(config, architecture) → its file, mergekit's output and error, for all that is to run, in one process."""
    root = tmp_path_factory.mktemp("mergekit")
    wanted = [
        (item.callspec.params["config"], item.callspec.params["architecture"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == test_both_tools_agree.__name__
    ]
    jobs = [
        Job(fill(config, families(architecture), root / architecture), root / architecture / config)
        for config, architecture in wanted
    ]
    errors = run_mergekit(jobs, root)
    return {pair: (job.config, job.out, error) for pair, job, error in zip(wanted, jobs, errors, strict=True)}


@pytest.mark.parametrize(("config", "architecture"), PAIRS)
def test_both_tools_agree(
    config: str, architecture: str, merged: dict[tuple[str, str], tuple[Path, Path, str | None]], tmp_path: Path
) -> None:
    file, theirs, error = merged[config, architecture]
    cannot = config == "passthrough_deep" and architecture in NO_DEEP_STACK
    assert ("layer_types" in error if cannot else False) if error else not cannot, error
    merge_ours(file, tmp_path / "ours")
    row = judge(config, architecture, file, tmp_path / "ours", theirs, config_written=not cannot)
    assert row.passed, "\n".join(row.complaints)


@pytest.mark.parametrize("models", [("one", "two"), ("tools", "ends")])
def test_mergekit_makes_the_same_of_an_export(
    models: tuple[str, str], families: Callable[[str], dict[str, Path]], tmp_path: Path
) -> None:
    family = families("llama")
    config = {
        "merge_method": "task_arithmetic",
        "base_model": str(family["base"]),
        "models": [{"model": str(family[name]), "parameters": {"weight": 0.3 + n}} for n, name in enumerate(models)],
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    (tmp_path / "config.yml").write_text(json.dumps(config))
    merge_ours(tmp_path / "config.yml", tmp_path / "ours")
    assert run_mergekit([Job(tmp_path / "ours" / "mergekit_config.yml", tmp_path / "theirs")], tmp_path) == [None]
    ours, theirs = (
        {name: tensor for file in (tmp_path / tool).glob("*.safetensors") for name, tensor in load_file(file).items()}
        for tool in ("ours", "theirs")
    )
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


REAL = ("task_arithmetic", "ties_dense", "ties", "linear", "slerp_models", "nuslerp", "model_stock", "sce", "della")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The real base and its experts in full; mergekit's copies of the adapters lie in the same folder, in lora/."""
    if not real.there():
        pytest.skip(real.MISSING)
    return real.experts(tmp_path_factory.mktemp("experts"))


@pytest.mark.full
@pytest.mark.shared
@pytest.mark.parametrize("config", REAL)
def test_both_tools_agree_on_real_models(config: str, experts: dict[str, Path], tmp_path: Path) -> None:
    job = Job(fill(config, experts, tmp_path), tmp_path / "mergekit")
    assert run_mergekit([job], tmp_path) == [None]
    merge_ours(job.config, tmp_path / "ours")
    row = judge(config, "SmolLM2", job.config, tmp_path / "ours", job.out)
    assert row.passed, "\n".join(row.complaints)


@pytest.mark.full
@pytest.mark.shared
@pytest.mark.parametrize("config", ["task_arithmetic", "linear"])  # not ties: a vote may hang on the last bit
def test_both_tools_agree_on_adapters(config: str, experts: dict[str, Path], tmp_path: Path) -> None:
    """`base+adapter`: mergekit writes the merged model out in float32, ours forms the delta as it goes."""
    job = Job(fill(config, real.adapters(), tmp_path), tmp_path / "mergekit", lora_cache=experts["one"].parent / "lora")
    assert run_mergekit([job], tmp_path) == [None]
    merge_ours(job.config, tmp_path / "ours")
    row = judge(config, "SmolLM2", job.config, tmp_path / "ours", job.out, kind="ulp")
    assert row.passed, "\n".join(row.complaints)


def test_every_expectation_is_of_a_config() -> None:
    assert set(expected.KINDS) <= set(config_names())


def test_the_comparison_counts_ulps_across_zero() -> None:
    ours = torch.tensor([0.0, -0.0, 1.0, 1.0, 2.0**-133], dtype=torch.bfloat16)
    theirs = torch.tensor([-0.0, -0.0, 1.0078125, -1.0, -(2.0**-133)], dtype=torch.bfloat16)
    assert compare.ulps_apart(ours, theirs).tolist() == [0, 0, 1, 2 * 0x3F80, 2]
    assert compare.bits_differ(ours, theirs).tolist() == [True, False, True, True, True]
