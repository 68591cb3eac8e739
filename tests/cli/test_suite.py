"""`automerge eval` on a suite of judged conversations: the table in its four forms."""

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from automerge.evals.scorers.judge import opened_judge
from tests.cli.world import Done
from tests.evals.judge_server import judge_server

SUITE = {
    "name": "talk",
    "turns": [{"role": "user", "content": "{{ q }}"}, {"role": "assistant"}, {"role": "user", "content": "why?"}],
    "sampling": {"max_tokens": 4},
    "items": {"search": 0, "held_out": 3},
}


@pytest.fixture
def suite(tmp_path: Path) -> Callable[[str], Path]:
    def make(url: str) -> Path:
        rows = [{"id": f"{kind}{n}", "kind": kind, "q": f"{kind} {n}"} for kind in ("a", "b", "c") for n in range(3)]
        (tmp_path / "talk.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        members = {kind: {"data": {"where": {"kind": kind}}} for kind in ("a", "b", "c")}
        scorer = {"type": "judge", "judge": {"model": "wise", "url": url, "tries": 1}}
        whole = {**SUITE, "data": {"path": "talk.jsonl", "id": "id"}, "scorer": scorer, "skills": members}
        (tmp_path / "talk.yaml").write_text(json.dumps(whole))
        return tmp_path / "talk.yaml"

    return make


def test_the_table_in_its_forms(suite: Callable[[str], Path], cli_models: Path, automerge: Callable[..., Done]) -> None:
    """The judge likes kind `a`, and the second round less; it says nothing of `c`'s second round."""

    def script(prompt: str, number: int) -> str:
        late = "why?" in prompt
        if "c 0" in prompt and late:
            return "no comment"
        return f"[[{8 if re.search('a [012]', prompt) else 4 if late else 5}]]"

    opened_judge.cache_clear()
    models = [cli_models / "base", cli_models / "math"]
    with judge_server(script) as server:
        config = suite(server.url)
        done = automerge("eval", *models, "--skills", config, "--answers", "kept.db", "--out", "tables")
        again = automerge("eval", *models, "--skills", config, "--answers", "kept.db", "--json")
        asked = len(server.asked)
    assert done.code == again.code == 0, done.err
    assert asked == 2 * 18, "36 answers, each judged once"
    total = (3 * 8 + 3 * 8 + 3 * 5 + 3 * 4 + 3 * 5 + 2 * 4) / 17
    for one in again.json:
        assert [one["skills"][f"talk/{kind}"]["unscored"] for kind in "abc"] == [0, 0, 1]
        assert one["suite"] == {"total": pytest.approx(total), "a": 8.0, "b": 4.5, "c": pytest.approx(23 / 5)}
    assert "talk" in done.out and "4.600" in done.out and f"{models[0]}: 1 answers are unscored" in done.out
    assert "no rating of 1 to 10, or several, in the judge's words: 'no comment'" in done.out
    assert Path("tables/table.md").read_text().startswith("| model | total | a | b | c |\n")
    rows = list(csv.DictReader(Path("tables/table.csv").read_text().splitlines()))
    assert [float(row["b"]) for row in rows] == [4.5, 4.5]
    assert Path("tables/radar.svg").read_text().lstrip().startswith("<?xml")


def test_one_skill_of_a_suite(suite: Callable[[str], Path], cli_models: Path, automerge: Callable[..., Done]) -> None:
    opened_judge.cache_clear()
    with judge_server(lambda prompt, number: "[[10]]") as server:
        config = suite(server.url)
        name = str(config.with_suffix("")) + "/b"
        done = automerge("eval", cli_models / "base", "--skills", name, "--json")
        assert done.json[0]["skills"]["talk/b"]["estimate"] == 1.0
        refused = automerge("eval", cli_models / "base", "--skills", name, "--out", "x")
        assert refused.code == 2 and "--out is for a suite of skills" in refused.message
        Path("file").write_text("")
        refused = automerge("eval", cli_models / "base", "--skills", config, "--out", "file")
        assert refused.code == 2 and "cannot make the folder file" in refused.message and len(server.asked) == 6
        unknown = automerge("eval", cli_models / "base", "--skills", str(config.with_suffix("")) + "/z")
        assert "the suite has no skill 'z'; it has: a, b, c" in unknown.message
