"""The main job as users run it: the embedded zoo with no config, and (long version) a real LLM with real experts."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("AUTOMERGE_SHARED", ROOT.parent / "shared"))
SMOLLM2 = Path(os.environ.get("AUTOMERGE_SMOLLM2", ROOT / "models" / "smollm2"))


def automerge(*arguments: str, cwd: Path, expect: int = 0) -> str:
    command = [sys.executable, "-m", "automerge", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stdout


def row(verdict: dict[str, Any], name: str) -> dict[str, float]:
    found = next(entry for entry in verdict["rows"] if entry["name"] == name)
    return {skill: interval["estimate"] for skill, interval in found["skills"].items()}


def test_the_default_search_promotes_a_merge_that_beats_every_source_and_the_average(tmp_path: Path) -> None:
    verdict = json.loads(automerge("search", "--budget", "50", "--json", cwd=tmp_path))
    assert verdict["outcome"] == "PROMOTED"
    winner = next(judged for judged in verdict["judged"] if judged["name"] == verdict["winner"])
    for baseline, interval in winner["differences"].items():
        assert interval["low"] > 0, baseline
        assert interval["confidence"] > 0.98  # corrected for three candidates
    base = row(verdict, "base")
    for source in ("math", "coding", "writing"):
        own = row(verdict, source)
        others = [row(verdict, name)[source] for name in ("base", "math", "coding", "writing") if name != source]
        assert own[source] > max(others) + 0.15, f"{source} is not clearly best at its skill"
        assert min(own[skill] - base[skill] for skill in own) < -0.1, f"{source} loses no skill"

    exported = json.loads(automerge("export", "merge", "--json", cwd=tmp_path))
    trials = json.loads(automerge("trials", "--json", cwd=tmp_path))
    scored = next(trial for trial in trials if trial["label"] == verdict["winner"])
    assert len(trials) == 50
    assert exported["checksum"] == scored["checksum"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merge")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "merge", dtype=torch.float32)
    prompt = tokenizer("12+7", return_tensors="pt")
    assert model.generate(**prompt, max_new_tokens=4).shape[1] > prompt["input_ids"].shape[1]

    again = json.loads(automerge("search", "--budget", "50", "--json", cwd=tmp_path))
    assert again == verdict


@pytest.mark.full
@pytest.mark.shared
def test_a_real_llm_is_searched_proven_and_exported(tmp_path: Path) -> None:
    if not (SHARED / "models").is_dir():
        pytest.skip(f"no real experts and items: {SHARED} is missing (AUTOMERGE_SHARED names another place)")
    if not (SMOLLM2 / "config.json").is_file():
        pytest.skip("no SmolLM2 checkpoint: `make smollm2` writes it (AUTOMERGE_SMOLLM2 names another place)")
    text = (ROOT / "search_spaces" / "smollm2.yaml").read_text(encoding="utf-8")
    text = text.replace("${AUTOMERGE_SMOLLM2:-../models/smollm2}", str(SMOLLM2.resolve()))
    text = text.replace("${AUTOMERGE_SHARED:-../../shared}", str(SHARED.resolve()))
    for counts in ("search: 48, held_out: 160", "search: 64, held_out: 256", "search: 40, held_out: all"):
        assert counts in text
        text = text.replace(counts, "search: 8, held_out: 12")
    (tmp_path / "small.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "automerge", "search", "small.yaml", "--budget", "10", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr[-3000:]
    verdict = json.loads(done.stdout)
    assert {entry["name"] for entry in verdict["rows"]} >= {"base", "math", "code", "writing", "plain_average"}
    assert row(verdict, "code")["coding"] > row(verdict, "base")["coding"] + 0.05
    assert row(verdict, "math")["math"] > row(verdict, "base")["math"] + 0.03

    exported = json.loads(automerge("export", "merge", "--trial", "8", "--json", cwd=tmp_path))
    shown = json.loads(automerge("show", "8", "--json", cwd=tmp_path))
    assert exported["checksum"] == shown["checksum"]
    merged = json.loads(automerge("merge", "merge/recipe.json", "again", "--json", cwd=tmp_path))
    assert merged["checksum"] == exported["checksum"]
    model, info = AutoModelForCausalLM.from_pretrained(tmp_path / "merge", output_loading_info=True)
    assert not info["missing_keys"]
    assert model.dtype == torch.bfloat16
