"""The Python side does what the commands do, and its examples run."""

import json
from pathlib import Path

import pytest
import yaml

from automerge import api
from automerge.errors import StudyError
from automerge.study.events import Ended, Event
from tests.cli.world import make_models, make_world


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("api")
        patch.setenv("AUTOMERGE_CACHE", str(folder / "cache"))
        return make_world(folder / "world", make_models(folder / "models"), low=0.45, high=0.75)


@pytest.fixture(scope="module")
def found(config: Path, tmp_path_factory: pytest.TempPathFactory) -> api.Found:
    return api.search(config, budget=12, out=tmp_path_factory.mktemp("out"), listen=lambda event: None)


def test_a_search_is_found_proven_and_exported(found: api.Found, tmp_path: Path) -> None:
    assert len(found.trials) == 12 and found.verdict.judged
    written = found.export(tmp_path / "merge", trial="trial 1")
    row = next(row for row in found.trials if row.label == "trial 1")
    assert row.record is not None and written.checksum == row.record.checksum
    assert json.loads((tmp_path / "merge" / "provenance.json").read_text())["candidate"] == "trial 1"
    again = api.merge(tmp_path / "merge" / "recipe.json", tmp_path / "again")
    assert again.checksum == written.checksum
    with pytest.raises(StudyError, match="no candidate"):
        found.export(tmp_path / "none", trial="trial 999")


def test_a_notebook_shows_the_report(found: api.Found) -> None:
    shown = found._repr_html_()
    assert shown.startswith("<iframe") and found.verdict.outcome in shown


def test_the_same_call_goes_on(found: api.Found, config: Path) -> None:
    ended: list[Ended] = []
    again = api.search(
        config, budget=12, out=found.folder.path, listen=lambda e: ended.append(e) if isinstance(e, Ended) else None
    )
    assert again.verdict == found.verdict and all(event.restored for event in ended)


def test_a_config_may_be_a_mapping_and_a_bar_is_drawn(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(config.parent)
    found = api.search(yaml.safe_load(config.read_text()), budget=9, out=tmp_path / "out")
    assert len(found.trials) == 9


def test_models_are_evaluated(config: Path) -> None:
    base = yaml.safe_load(config.read_text())["base"]
    results = api.evaluate([base], [str(config.parent / "recall.yaml")], engine="transformers")
    scored = results[base]["recall"]
    assert len(scored) == 42 and all(result.score.value in (0.0, 1.0) for result in scored)


def test_what_was_not_promoted_is_not_exported(config: Path, tmp_path: Path) -> None:
    text = config.read_text().replace("margin: 5%", "margin: 0")
    other = config.with_name("strict.yaml")
    other.write_text(text.replace("no_worse_than: base, margin: 0", "min: 0.9999"))
    found: Event | api.Found = api.search(other, budget=9, out=tmp_path / "out", listen=lambda event: None)
    assert isinstance(found, api.Found)
    with pytest.raises(StudyError, match="nothing to export"):
        found.export(tmp_path / "merge")


def test_the_pages_examples_run(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
    for file in config.parent.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "world.yaml").rename(tmp_path / "automerge.yaml")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in page.split("```python\n")[1:]:
        exec(compile(block.split("```")[0], "docs/python.md", "exec"), names)
    assert "results" in names and (tmp_path / "my-merge-again").is_dir()
