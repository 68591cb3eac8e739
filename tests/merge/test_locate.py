"""Finding a model: a folder, a hub id through a prepared cache, and the message where there is neither."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.utils import filter_repo_objects

from automerge.errors import SourceError
from automerge.merge.sources.locate import IGNORED, PATTERNS, locate
from tests.tiny import tiny_llama

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CODE = "import sys; from automerge.merge import open_models; m = open_models(sys.argv[1], {}); print(m.base.folder)"


def hub_cache(root: Path) -> Path:
    """owner/tiny in a hub cache, as huggingface_hub lays it out: snapshots that link to blobs."""
    made = tiny_llama(root / "made")
    repo = root / "hub" / "models--owner--tiny"
    (repo / "blobs").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(COMMIT)
    snapshot = repo / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(made.iterdir())):
        (repo / "blobs" / f"{number:040d}").write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{number:040d}")
    return root / "hub"


def opened(model: str, cache: Path) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    env = {**os.environ, "PYTHONPATH": root, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    return subprocess.run([sys.executable, "-c", CODE, model], capture_output=True, text=True, env=env)


def test_a_hub_id_offline(tmp_path: Path) -> None:
    cache = hub_cache(tmp_path)
    for model in ("owner/tiny", f"owner/tiny@{COMMIT}"):
        done = opened(model, cache)
        assert done.stdout.strip().endswith(f"snapshots/{COMMIT}"), done.stderr
    done = opened("owner/other@v1", cache)
    assert "owner/other@v1: no such folder, and not in the local hub cache" in done.stderr


def test_of_subfolders_nothing_but_chat_templates() -> None:
    kept = ["config.json", "a.safetensors", "tokenizer.json", "additional_chat_templates/tools.jinja"]
    left = ["onnx/model.safetensors", "original/params.json", "tokenizer/vocab.json", "model.bin", "tokenizer_2/a.bin"]
    found = filter_repo_objects([*kept, *left], allow_patterns=PATTERNS, ignore_patterns=IGNORED)
    assert list(found) == kept


def test_a_folder(tmp_path: Path) -> None:
    assert locate(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("model", ["./nothing/here/at/all", "", "nothing"])
def test_neither(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceError, match="no such folder"):
        locate(model)


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(SourceError, match="expected a folder, got a file"):
        locate(str(tmp_path / "model.safetensors"))
