"""Tokens, keys and passwords: canaries are planted, and everything that is printed or written is looked through."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from automerge.config import load_search
from automerge.errors import ConfigError
from tests.cli.world import Done, make_world

Command = Callable[..., Done]
CANARY = "canary-7f3a9"
PLANTED = {
    name: f"{CANARY}-{name.lower()}"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "PGPASSWORD", "WANDB_API_KEY")
}
CODE = {"name": "c", "data": {"path": "c.jsonl", "id": "id"}, "prompt": "{{ q }}", "target": "{{ q }}"}


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, secret in PLANTED.items():
        monkeypatch.setenv(name, secret)


def written(folder: Path) -> list[Path]:
    """Files that hold a canary."""
    return [path for path in folder.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]


def test_a_study_and_its_export_hold_none(cli_models: Path, tmp_path: Path, automerge: Command) -> None:
    config = make_world(tmp_path, cli_models, low=0.45, high=0.75)
    said = [
        automerge("search", config, "--budget", 9, "--out", "out"),
        automerge("trials", "--out", "out", "--json"),
        automerge("show", 0, "--out", "out", "--json"),
        automerge("export", "--out", "out", "--trial", 0, "merged"),
    ]
    assert [done.code for done in said if done.code not in (0, 3)] == []
    assert not [done for done in said if CANARY in done.out + done.err]
    assert Path("merged/provenance.json").exists()
    assert written(tmp_path) == []


def test_a_storage_url(cli_models: Path, tmp_path: Path, automerge: Command) -> None:
    """No server answers there: the error names the place and not the password, in the URL or in its options."""
    config = make_world(tmp_path, cli_models)
    for url in (
        f"postgresql+psycopg2://me:{CANARY}@127.0.0.1:1/db",
        f"mysql+pymysql://me@127.0.0.1:1/db?password={CANARY}",
        f"nonsense://me:{CANARY}@127.0.0.1:1/db?password={CANARY}",
    ):
        done = automerge("search", config, "--budget", 1, "--out", "out", "--storage", url)
        assert done.code == 1 and "127.0.0.1:1" in done.message
        assert CANARY not in done.out + done.err
    assert written(tmp_path) == []


def test_the_sandbox_is_given_none(tmp_path: Path, automerge: Command) -> None:
    skill = {**CODE, "scorer": {"type": "code", "tests": "t"}, "items": {"search": 0, "held_out": 1}}
    Path("c.yaml").write_text(json.dumps(skill))
    test = f"assert {CANARY[:6]!r} not in seen(), 'leaked'"
    Path("c.jsonl").write_text(json.dumps({"id": 1, "q": "x", "t": test}) + "\n")
    answer = "import os\ndef seen():\n    return str(dict(os.environ))\n"
    Path("a.jsonl").write_text(json.dumps({"id": 1, "answer": answer}) + "\n")
    done = automerge("score", "--skill", "c.yaml", "--answers", "a.jsonl", "--json")
    if done.code == 1 and "no sandbox" in done.message:
        pytest.skip("no sandbox on this machine")
    assert done.json[0]["score"] == 1.0, done.json
    assert CANARY not in done.out + done.err
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("base: ${HF_TOKEN}", "HF_TOKEN is a secret, and a study keeps its config"),
        (f"engine: {{arguments: {{hf_token: {CANARY}}}}}", "hf_token: is a secret, and a study keeps its config"),
    ],
)
def test_a_config_may_not_hold_one(cli_models: Path, tmp_path: Path, change: str, said: str) -> None:
    config = make_world(tmp_path, cli_models)
    key = change.partition(":")[0]
    lines = [line for line in config.read_text().splitlines() if not line.startswith(f"{key}:")]
    config.write_text("\n".join([*lines, change]))
    with pytest.raises(ConfigError, match=said) as raised:
        load_search(str(config))
    assert CANARY not in str(raised.value)


def test_other_variables_are_taken(cli_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_TOKENS_FOLDER", str(cli_models))
    config = make_world(tmp_path, cli_models)
    config.write_text(config.read_text().replace(f"base: {cli_models}", "base: ${MAX_TOKENS_FOLDER}"))
    assert load_search(str(config)).base == str(cli_models / "base")
