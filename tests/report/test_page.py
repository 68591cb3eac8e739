"""The report, as a reader has it: what it says, and how a real browser shows it."""

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from automerge.config import load_search
from automerge.report.page import page
from automerge.study.folder import StudyFolder
from automerge.study.jobs import Budget
from automerge.study.session import run_search
from automerge.study.store import open_study
from tests.study.worlds import make_models, make_world, plan_of, scripted

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>document.title='pwned'</script><img src=x onerror=alert(1)>"

# Runs in the page: what overflows, what is hard to read, what a keyboard cannot reach.
PROBE = """
<script>
const errors = []; addEventListener("error", e => errors.push(e.message));
addEventListener("load", () => {
  document.querySelectorAll("details").forEach(d => d.open = true);
  const light = c => {
    const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; });
    return .2126 * r + .7152 * g + .0722 * b; };
  const rgb = s => s.match(/[\\d.]+/g).map(Number);
  const ground = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > 0) return c.slice(0, 3); } return [255, 255, 255]; };
  const faint = [];
  for (const e of document.querySelectorAll("body *:not(svg *)")) {
    if (![...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim())) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color).slice(0, 3)), light(ground(e))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) faint.push([e.tagName, e.textContent.slice(0, 30), ratio]);
  }
  const scrolls = [...document.querySelectorAll(".wide")].filter(e => e.scrollWidth > e.clientWidth);
  const found = { errors, faint, wider: document.documentElement.scrollWidth - innerWidth, title: document.title,
    unreachable: scrolls.filter(e => e.tabIndex < 0).length, loaded: performance.getEntriesByType("resource").length,
    dark: matchMedia("(prefers-color-scheme: dark)").matches, ready: performance.now() };
  document.body.innerHTML = "<pre id=found>" + JSON.stringify(found).replaceAll("<", "&lt;") + "</pre>";
});
</script>
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of a finished study, one of whose prompts is hostile HTML."""
    folder = tmp_path_factory.mktemp("report")
    config = make_world(folder / "world", make_models(folder / "models"))
    items = config.parent / "math.jsonl"
    items.write_text(items.read_text().replace('"prompt": "math 7"', f'"prompt": {json.dumps("math 7")}'))
    config.write_text(
        config.read_text()
        .replace("racing: false", "racing: true")
        .replace("name: world", f"name: world\nabout: {json.dumps(HOSTILE)}")
    )
    skill = config.parent / "skill.yaml"
    skill.write_text(skill.read_text().replace("block: 20", "block: 8"))
    place = StudyFolder(folder / "out")
    run_search(plan_of(config), place, Budget(trials=30), lambda event: None, start=lambda *_: scripted())
    return page(open_study("world", place.storage), load_search(str(config)), place, place.storage)


def test_the_verdict_comes_first_and_all_parts_are_there(report: str) -> None:
    text = re.sub(r"<style>.*?</style>", "", report, flags=re.DOTALL)
    assert (
        text.index("PROMOTED") < text.index("Held-out items") < text.index("The search") < text.index("The recipe of")
    )
    for part in (
        "Time and tokens",
        "Answers side by side",
        "All candidates",
        "automerge search CONFIG --budget",
        "met",
    ):
        assert part in text
    assert report.count("<svg") >= 5
    assert "~0." in text and "behind" in text  # stopped candidates


def test_nothing_is_fetched_and_what_models_say_is_text(report: str) -> None:
    tags = re.findall(r"<[a-z][^>]*>", report)  # what is escaped is no tag
    assert not [tag for tag in tags if re.search(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", tag)]
    assert "<script" not in report and "&lt;script&gt;" in report
    assert "url(http" not in report


def test_it_is_small(report: str) -> None:
    assert len(report.encode()) < 5_000_000


def look(report: str, folder: Path, width: int, *flags: str) -> dict[str, object]:
    """What the probe found, in a window so wide."""
    assert CHROMIUM is not None
    file = folder / "report.html"
    page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report)  # which would refuse the probe
    file.write_text(page.replace("</head>", PROBE + "</head>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += [f"--window-size={width},900", "--virtual-time-budget=5000", *flags, "--dump-dom", file.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    found: dict[str, object] = json.loads(
        re.search(r'<pre id="found">(.*?)</pre>', shown, re.DOTALL)[1]
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
    )  # type: ignore[index]
    return found


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize("width", [1400, 500])
@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it_without_overflow_errors_or_faint_text(
    report: str, tmp_path: Path, width: int, dark: bool
) -> None:
    flags = ["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]
    found = look(report, tmp_path, width, *flags)
    assert found["dark"] is dark
    assert found["errors"] == [] and found["faint"] == [] and found["loaded"] == 0
    assert found["wider"] <= 0 and found["unreachable"] == 0  # type: ignore[operator]
    assert found["title"] == "world: PROMOTED"


def test_a_study_without_a_verdict_has_a_report_too(tmp_path: Path, models: Path) -> None:
    config = make_world(tmp_path / "world", models)
    place = StudyFolder(tmp_path / "out")
    plan = plan_of(config)

    def stop(event: object) -> None:
        if type(event).__name__ == "Ended" and event.spent_trials == 3:  # type: ignore[attr-defined]
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(plan, place, Budget(trials=12), stop, start=lambda *_: scripted())
    text = page(open_study("world", place.storage), plan.config, place, place.storage)
    assert "No verdict yet" in text and "All candidates" in text


@pytest.mark.full
def test_five_hundred_trials_open_in_a_second(tmp_path: Path, models: Path) -> None:
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    config = make_world(tmp_path / "world", models)
    config.write_text(config.read_text().replace("name: tpe", "name: random"))
    place = StudyFolder(tmp_path / "out")
    run_search(plan_of(config), place, Budget(trials=500), lambda event: None, start=lambda *_: scripted())
    began = time.perf_counter()
    text = page(open_study("world", place.storage), load_search(str(config)), place, place.storage)
    print(f"made in {time.perf_counter() - began:.1f} s, {len(text) / 1e6:.2f} MB")
    assert len(text.encode()) < 5_000_000
    found = look(text, tmp_path, 1400)
    print(found["ready"])
    assert found["ready"] < 1000  # type: ignore[operator]
