"""Skill files: what they may say, where they are found, what merging overrides does."""

from pathlib import Path
from typing import Any

import pytest

from automerge.errors import AutomergeError, ConfigError
from automerge.evals import load_skill
from tests.evals.helpers import sums, write_rows

YAML = """
name: sums
data: {path: items.jsonl}
prompt: "{{ question }}"
scorer: {type: numeric, calculator: true}
sampling: {max_tokens: 8, stop: ["\\n"]}
items: {search: 3, held_out: 2}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "skills").mkdir()
    (tmp_path / "skills" / "sums.yaml").write_text(YAML)
    write_rows(tmp_path / "skills" / "items.jsonl", sums(5))
    write_rows(tmp_path / "other.jsonl", sums(5))
    return tmp_path


@pytest.mark.parametrize("use", ["skills/sums.yaml", "skills/sums", {"use": "skills/sums.yaml"}])
def test_found_beside_the_config_with_its_data_beside_itself(folder: Path, use: Any) -> None:
    skill = load_skill(use, folder=folder, name="math")
    assert skill.name == "math"
    assert skill.data.path == str(folder / "skills" / "items.jsonl")
    assert skill.sampling.stop == ("\n",)


def test_found_in_evals_and_shipped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "evals").mkdir()
    (folder / "evals" / "mine.yaml").write_text(YAML)
    assert load_skill("mine", folder=folder / "skills").name == "sums"
    for shipped in ("gsm8k", "svamp", "mbpp", "mbpp_likelihood", "humaneval", "humaneval_chat"):
        assert load_skill(shipped, folder=folder).data.hub


def test_overrides_are_merged_key_by_key(folder: Path) -> None:
    use = {
        "use": "skills/sums",
        "data": {"path": "other.jsonl"},
        "sampling": {"max_tokens": 9},
        "items": {"held_out": "all"},
    }
    skill = load_skill(use, folder=folder)
    assert skill.data.path == str(folder / "other.jsonl"), "relative to the config, where it is written"
    assert (skill.sampling.max_tokens, skill.sampling.stop) == (9, ("\n",))
    assert (skill.items.search, skill.items.held_out) == (3, "all")


def test_overrides_replace_what_they_exclude(folder: Path) -> None:
    hub = load_skill({"use": "gsm8k", "data": {"path": "other.jsonl"}}, folder=folder)
    assert (hub.data.hub, hub.data.config, hub.data.path) == (None, None, str(folder / "other.jsonl"))
    exact = load_skill({"use": "skills/sums", "scorer": {"type": "exact"}}, folder=folder)
    assert exact.scorer == {"type": "exact"}
    same = load_skill({"use": "skills/sums", "scorer": {"tolerance": 1}}, folder=folder)
    assert same.scorer == {"type": "numeric", "calculator": True, "tolerance": 1}
    turns = load_skill({"use": "skills/sums", "turns": [{"role": "user", "content": "x"}]}, folder=folder)
    assert turns.prompt is None


def _inline(**changes: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": "x",
        "data": {"path": "other.jsonl"},
        "prompt": "{{ question }}",
        "scorer": {"type": "exact"},
    }
    return {key: value for key, value in (plain | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("use", "message"),
    [
        ("", "expected the name or the path of a skill, got ''"),
        ("nowhere.yaml", "no such skill file"),
        ("skills/sms.yaml", "no such skill file (did you mean 'sums.yaml'?)"),
        ("skills", "skills: is a folder, not a skill\nName a file in it: sums.yaml."),
        ("./nowhere", "./nowhere: no such skill file\nLooked in"),
        ("/nowhere", "/nowhere: no such skill file"),
        ("mt_bnch/math", "no such skill file (did you mean 'mt_bench'?)"),
        ("gsm8k/math", "one skill, and no suite that could have a skill 'math'"),
        ("gsm9k", "did you mean 'gsm8k'?"),
        ("writing", "the skill names no data"),
        (_inline(skills=5), "expected skills: {NAME: {keys of its own}, …}"),
        (_inline(promt="x"), "unknown key 'promt' (did you mean 'prompt'?)"),
        (_inline(prompt=None), "exactly one of prompt and turns"),
        (_inline(turns=[{"role": "user", "content": "x"}]), "exactly one of prompt and turns"),
        (
            _inline(prompt=None, turns=[{"role": "assistant", "content": "x"}]),
            "last turn must be the user's, got assistant",
        ),
        (_inline(prompt="{{ question"), "prompt: not a Jinja template: line 1"),
        (_inline(data={"path": "a", "hub": "b"}), "exactly one of path, hub and lm_eval"),
        (_inline(data={"split": "test"}), "exactly one of path, hub and lm_eval"),
        (_inline(chat=False, system="x"), "chat: false takes a prompt"),
        (_inline(scorer={"type": "exakt"}), "did you mean 'exact'?"),
        (_inline(sampling={"max_tokens": 0}), "sampling.max_tokens"),
        (_inline(sampling={"temperature": 2.1}), "sampling.temperature"),
        (_inline(sampling={"seed": 2**63}), "sampling.seed"),
        (_inline(items={"search": "many"}), "items.search"),
        (_inline(block=0), "block"),
        (_inline(name=None), "name"),
    ],
)
def test_bad_files(folder: Path, use: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_skill(use, folder=folder)
    assert message in str(caught.value)
    assert isinstance(caught.value, AutomergeError) and caught.value.where
