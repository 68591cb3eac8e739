"""A child process answers, and leaves nothing behind whichever side dies."""

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from automerge.engine.child import Child
from automerge.errors import EngineLost, MergeError

MODULE = "tests.engine.child_calls"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    made = Child(MODULE, tmp_path / "log", {"PYTHONPATH": str(ROOT)})
    yield made
    made.close()


def is_alive(pid: int) -> bool:
    """A zombie is not: whoever made it has not looked at it yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(*pids: int) -> bool:
    """Soon, that is; on a machine with much else to do it may take a while."""
    deadline = time.monotonic() + 120
    while left := [pid for pid in pids if is_alive(pid)]:
        if time.monotonic() > deadline:
            for pid in left:
                print(Path(f"/proc/{pid}/status").read_text(), Path(f"/proc/{pid}/wchan").read_text())
            return False
        time.sleep(0.01)
    return True


def test_calls_are_answered_in_order(child: Child) -> None:
    for number in range(5):
        assert child.call("echo", number, {"a": [1.5, None]}, seconds=60) == [number, {"a": [1.5, None]}]


def test_what_it_refuses_arrives_as_it_was_raised(child: Child) -> None:
    with pytest.raises(MergeError) as caught:
        child.call("refuse", seconds=60)
    assert (caught.value.message, caught.value.where, caught.value.hint) == ("not today", "tensor", "tomorrow")
    assert child.call("echo", 1, seconds=60) == [1]


def test_what_it_did_not_mean_to_raise_is_a_loss(child: Child) -> None:
    with pytest.raises(EngineLost, match="lost"):
        child.call("fail", seconds=60)


def test_what_it_prints_goes_to_the_log(child: Child, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    child.call("echo", "hello", seconds=60)
    with pytest.raises(EngineLost):
        child.call("fail", seconds=60)
    log = (tmp_path / "log").read_text()
    assert "echoing hello" in log and "Traceback" in log
    assert capfd.readouterr() == ("", "")


def test_a_hanging_call_ends_the_process(child: Child) -> None:
    child.call("echo", seconds=60)
    other = child.call("start_another", seconds=60)
    with pytest.raises(EngineLost, match="has not answered for"):
        child.call("hang", seconds=0.2)
    assert gone(child.pid, other)


def test_one_that_takes_no_call_any_more_is_ended_too(child: Child) -> None:
    child.call("echo", seconds=60)
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(EngineLost, match=r"has not answered for 0\.2 s"):
        child.call("echo", "more than a socket holds" * 100_000, seconds=0.2)
    assert gone(child.pid)


def test_a_call_may_take_for_ever(child: Child) -> None:
    assert child.call("echo", 1, seconds=math.inf) == [1]
    assert child.call("echo", 2, seconds=1e9) == [2]


def test_a_process_that_dies_is_told_of_and_cleaned_up_after(child: Child, tmp_path: Path) -> None:
    other = child.call("start_another", seconds=60)
    with pytest.raises(EngineLost, match=r"died \(signal 9\)") as caught:
        child.call("die", seconds=60)
    assert caught.value.where == str(tmp_path / "log")
    assert gone(child.pid, other)


def test_close_ends_the_whole_group(child: Child) -> None:
    other = child.call("start_another", seconds=60)
    child.close()
    child.close()
    assert gone(child.pid, other)


@pytest.mark.parametrize("then", ["child.call('hang', seconds=600)", "time.sleep(600)"], ids=["called", "between"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_parents_end_is_its_end(tmp_path: Path, number: signal.Signals, then: str) -> None:
    code = (
        "import time, pathlib; from automerge.engine.child import Child\n"
        f"child = Child({MODULE!r}, pathlib.Path({str(tmp_path / 'log')!r}), {{}})\n"
        f"print(child.pid, child.call('start_another', seconds=60), flush=True); {then}"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(is_alive(pid) for pid in pids)
    parent.send_signal(number)
    parent.wait(20)
    parent.stdout.close()
    assert gone(*pids)
