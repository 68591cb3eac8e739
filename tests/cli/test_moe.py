"""`automerge moe` and `check` on mergekit-moe's YAML."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file, save_file

from automerge.export.verify import stored_sums
from automerge.moe.config import is_moe
from tests.cli.world import Done
from tests.moe.conftest import described
from tests.peers.pico import pico_family

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moe")
    models = pico_family(folder / "models", "llama")
    file = folder / "moe.yml"
    file.write_text(yaml.safe_dump(described(models["base"], [models["one"], models["two"]], experts_per_token=1)))
    return file


def test_check_then_moe(automerge: Callable[..., Done], config: Path, tmp_path: Path) -> None:
    planned = automerge("check", str(config), "--json")
    assert planned.code == 0
    made = automerge("moe", str(config), str(tmp_path / "out"), "--json")
    assert made.code == 0
    for key in ("architecture", "parameters", "active", "bytes"):
        assert made.json[key] == planned.json[key], key
    assert made.json["active"] < made.json["parameters"] and 0 < made.json["closest_gates"] <= 1
    about = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert about["checksum"] == made.json["checksum"]
    assert (tmp_path / "out" / "moe_config.yml").read_text() == config.read_text()
    again = automerge("moe", str(config), str(tmp_path / "out"))
    assert again.code == 1 and "exists already" in again.message


def test_a_misspelt_key_is_one_mistake(automerge: Callable[..., Done], config: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "moe.yml"
    wrong.write_text(config.read_text().replace("source_model", "source_modl"))
    said = automerge("check", wrong)
    assert said.code == 1 and "experts.0: unknown key 'source_modl' (did you mean 'source_model'?)" in said.message
    assert "at least 1" not in said.message and "Field required" not in said.message


def test_verify_makes_it_again(automerge: Callable[..., Done], config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = automerge("moe", str(config), str(out), "--json")
    told = automerge("verify", str(out), "--json")
    assert told.code == 0 and told.json["checksum"] == made.json["checksum"] and told.json["recorded"]
    assert "router taken as it is" in automerge("verify", str(out)).out
    expert = yaml.safe_load(config.read_text())["experts"][0]["source_model"]
    moved = Path(shutil.copytree(expert, tmp_path / "moved"))
    assert automerge("verify", str(out), "--model", f"{expert}={moved}").code == 0
    wrong = automerge("verify", str(out), "--model", f"{expert}={yaml.safe_load(config.read_text())['base_model']}")
    assert wrong.code == 1 and "experts.0 is no longer" in wrong.message
    unknown = automerge("verify", str(out), "--model", "nobody=/tmp")
    assert unknown.code == 1 and "no model 'nobody'" in unknown.message
    about = json.loads((out / "provenance.json").read_text())
    about["config"]["experts"].pop()
    about["config"]["experts_per_token"] = 1
    (out / "provenance.json").write_text(json.dumps(about))
    edited = automerge("verify", str(out))
    assert edited.code == 1 and "experts, but" in edited.message and "provenance.json" in edited.message


@pytest.mark.parametrize("tensor", ["experts", "gate"])
def test_verify_finds_another_tensor(automerge: Callable[..., Done], config: Path, tmp_path: Path, tensor: str) -> None:
    out = tmp_path / "out"
    automerge("moe", str(config), str(out))
    file = out / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if tensor in name)
    tensors[name] = tensors[name] + 1
    save_file(tensors, file, metadata={"format": "pt"})
    told = automerge("verify", str(out))
    assert told.code == 1 and "records checksum" in told.message
    about = json.loads((out / "provenance.json").read_text())
    (out / "provenance.json").write_text(json.dumps(about | {"checksum": stored_sums(out).hexdigest()}))
    told = automerge("verify", str(out))
    if tensor == "gate":  # taken as it is
        assert told.code == 0
    else:
        assert told.code == 1 and name in told.message


def test_the_words_for_people(automerge: Callable[..., Done], config: Path, tmp_path: Path) -> None:
    assert "No mistake found." in automerge("check", str(config)).out
    told = automerge("moe", str(config), str(tmp_path / "out"))
    assert told.code == 0 and "MixtralForCausalLM" in told.out and "cosine" in told.out


def test_merge_says_where_a_mixture_is_made(automerge: Callable[..., Done], config: Path, tmp_path: Path) -> None:
    told = automerge("merge", str(config), str(tmp_path / "out"))
    assert told.code == 1 and "automerge moe" in told.message


def test_a_file_is_told_apart_without_what_it_names(tmp_path: Path) -> None:
    moe, space = tmp_path / "moe.yaml", tmp_path / "space.yaml"
    moe.write_text("base_model: ${NOT_SET_ANYWHERE}\nexperts: []\n")
    space.write_text("base: ${NOT_SET_ANYWHERE}\nabout: |\n  experts: of many kinds\n")
    assert is_moe(moe) and not is_moe(space) and not is_moe(tmp_path / "missing.yaml")


def test_the_shipped_example_has_no_mistake_but_its_models(automerge: Callable[..., Done]) -> None:
    told = automerge("check", str(ROOT / "docs" / "examples" / "beyonder-4x7b.yaml"))
    assert told.code == 1 and "mlabonne/Marcoro14-7B-slerp" in told.message
