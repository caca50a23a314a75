"""report.html in a real browser, where there is one: nothing runs off a narrow screen, and both themes are drawn."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from suites.framework.model import Evidence, Outcome, Sample
from suites.framework.report import page
from suites.framework.results.metrics import Metrics
from suites.framework.results.result import Result
from suites.framework.results.verdict import judge
from tests.fake_run import FakeRun

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DEADLINE_S = 60
MEASURE = """<script>
addEventListener("load", () => {
  const unseen = [...document.querySelectorAll("a, summary, [tabindex='0']")].filter(
    (one) => one.checkVisibility() && !one.matches(".skip") && (one.focus(), document.activeElement !== one));
  document.body.dataset.found = [document.documentElement.scrollWidth, innerWidth, unseen.length,
    matchMedia("(prefers-color-scheme: dark)").matches].join(" ");
});
</script>"""
pytestmark = pytest.mark.skipif(
    not BROWSER, reason="no chromium on PATH: install it to look at the report in a browser"
)

Browse = Callable[..., str]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Return a function that calls the browser with a page and returns what it prints."""

    def called(text: str, *words: str, width: int = 1200) -> str:
        file = tmp_path / "page.html"
        file.write_text(text)
        quiet = ("gpu", "quic", "background-networking", "component-update", "sync", "dev-shm-usage")
        command = [str(BROWSER), "--headless", "--no-sandbox", "--no-first-run", "--hide-scrollbars"]
        command += [f"--disable-{name}" for name in quiet]
        command += [f"--user-data-dir={tmp_path / 'browser'}", f"--window-size={width},1200", *words, f"file://{file}"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DEADLINE_S, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return called


@pytest.fixture
def text(tmp_path: Path) -> str:
    """Return a page with long words in every section."""
    view = FakeRun(tmp_path / "runs").view()
    long = "w" * 400
    results = tuple(
        Result(
            environment=environment,
            phase="test",
            worker="1",
            node=f"{target}{number}{long}",
            cases=(f"SG-{number}",),
            target=target,
            kind="init",
            mode=mode,
            title=f"TERM reaches the child {long if number == 1 else ''}",
            parameter=long if number == 2 else "",
            outcome=Outcome.FAILED if number < 3 else Outcome.SKIPPED if number == 4 else Outcome.PASSED,
            reason="missing:docker" if number == 4 else "",
            expected=long,
            actual="exit 1",
            evidence=(Evidence(title="stderr", text=long),),
            wall_s=0.1,
        )
        for environment in ("root-native", "root-container", "rootless-native", "rootless-container")
        for target in ("tini", "catatonit")
        for mode in ("plain", "pid1")
        for number in range(6)
    )
    sample = tuple(Sample(t=t, step="test.1", cpu_s=t / 2, rss_bytes=t * 2**20, processes=1) for t in range(9))
    view = replace(view, results=results, metrics={"root-native": Metrics(samples=sample)})
    return page.render(view, judge(view), howto=lambda _: f"$INIT {long}", against=replace(view, results=results[::3]))


def found(dom: str) -> list[str]:
    match = re.search(r'data-found="([^"]*)"', dom)
    assert match, "the page was not measured"
    return match[1].split()


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_runs_off_the_screen(browse: Browse, text: str, width: int, folded: bool) -> None:
    """Tables scroll in their own containers, folded or not, and every control takes the focus."""
    opened = (
        text if folded else text.replace("<details ", '<details open="" ').replace('open="" open="open"', 'open=""')
    )
    wide, window, unseen, _ = found(browse(opened.replace("</body>", f"{MEASURE}</body>"), "--dump-dom", width=width))
    assert int(wide) <= int(window)
    assert unseen == "0"


@pytest.mark.parametrize("folded", [True, False])
def test_nothing_runs_off_a_screen_of_400_pixels(browse: Browse, text: str, folded: bool) -> None:
    """In a frame of 400 pixels, as a headless window may have a least width."""
    opened = (
        text if folded else text.replace("<details ", '<details open="" ').replace('open="" open="open"', 'open=""')
    )
    inner = opened.replace("</body>", f"{MEASURE}</body>").replace("&", "&amp;").replace('"', "&quot;")
    frame = f'<!DOCTYPE html><body><iframe width="400" height="900" style="border:0" srcdoc="{inner}"></iframe><script>'
    frame += "addEventListener('load', () => { document.body.dataset.found ="
    frame += " document.querySelector('iframe').contentDocument.body.dataset.found; });</script></body>"
    wide, window, unseen, _ = found(browse(frame, "--dump-dom"))
    assert (int(wide), window, unseen) == (400, "400", "0")


@pytest.mark.parametrize(
    ("setting", "ground"), [("1", (255, 255, 255)), ("0", (0x14, 0x17, 0x1C))], ids=["light", "dark"]
)
def test_both_themes_are_drawn(
    browse: Browse, text: str, tmp_path: Path, setting: str, ground: tuple[int, int, int]
) -> None:
    picture = tmp_path / "picture.png"
    browse(text, f"--blink-settings=preferredColorScheme={setting}", f"--screenshot={picture}")
    assert corner(picture.read_bytes()) == ground


def corner(png: bytes) -> tuple[int, int, int]:
    """Return the colour of the first pixel of an RGB or RGBA picture: no filter changes it."""
    at, data = 8, b""
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            data += png[at + 8 : at + 8 + length]
        at += length + 12
    red, green, blue = zlib.decompress(data)[1:4]
    return red, green, blue
