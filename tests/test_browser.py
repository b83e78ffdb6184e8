"""The explorers and the report in a real browser: sliders are moved, what they show follows; a page is read offline.

Needs playwright (`pip install playwright`) and a Chromium (Debian: `apt-get install chromium`); where one is missing,
in CI as well, the tests are skipped and say so. What explorer and report do is tested without a browser in their
chapters. `SEDSOFT_SCREENSHOTS=nbs/images` makes this file renew the chapters' pictures as well, from what `make demo`
left in runs/demo and runs/demo_attention.
"""

import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from sedsoft.evaluation import ReferenceRecording, evaluate, judge
from sedsoft.explorers import threshold_data
from sedsoft.labels import EVALUATED, SCENES
from sedsoft.report import Report, report_html, report_pictures
from sedsoft.scores import frame_scores

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = Path(__file__).resolve().parents[1]
SCREENSHOTS = os.environ.get("SEDSOFT_SCREENSHOTS")  # the folder for pictures; unset: none are kept
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
THRESHOLDS = """
import numpy as np
from sedsoft.explorers import ThresholdData, ThresholdExplorer
from sedsoft.labels import CLASSES

rng = np.random.default_rng(0)
drift = rng.standard_normal((250, 17)).cumsum(0)
soft = np.clip((drift[10:] - drift[:-10]) / 6 - np.arange(17) / 25 + 0.3, 0, 1).round(1)
scores = np.clip(0.8 * soft + 0.2 * rng.random(soft.shape), 0, 1)
validated = {1: np.full(17, 0.4), 2: np.full(17, 0.6)}
names = ("street_00", "street_01")
data = ThresholdData(CLASSES, names, (120, 120), (1, 2), scores, soft, np.full(17, 0.5123), validated)
ThresholdExplorer(data)
"""
ATTENTION = """
import numpy as np
from sedsoft.explorers import AttentionData, AttentionExplorer

per, lengths = 5, (90, 40)


def made_up(name, sharpness):
    rng, features, weights = np.random.default_rng(0), [], []
    for k, n in enumerate(lengths):
        sounding = np.repeat(np.sin(np.arange(n) / 4) + 0.4 * rng.standard_normal(n) > 0.4, per)
        sweep = 30 - 12 * k + 10 * np.sin(np.arange(n * per) / 31)
        shape = np.exp(-(((np.arange(64) - sweep[:, None]) / 4) ** 2))
        features.append(-8 + 4 * sounding[:, None] * shape + 0.7 * rng.standard_normal((n * per, 64)))
        at = np.arange(n)[:, None] * per + np.arange(41 * per) - 20 * per
        inside = (at >= 0) & (at < n * per)
        alike = np.where(inside, sounding[np.clip(at, 0, n * per - 1)] == sounding[::per][:, None], True)
        logits = sharpness * alike + 0.3 * rng.standard_normal(at.shape)
        weights.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    return AttentionData(name, ("street_00", "street_01"), tuple(features), tuple(weights), 0.2)


AttentionExplorer(made_up("sharp", 2.5), made_up("<dull>", 0.4))
"""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def lab_url(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a notebook with one cell, the parameter, in a JupyterLab of its own; stopped afterwards."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(request.param)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    (tmp_path / "work").mkdir()
    nbformat.write(notebook, tmp_path / "work" / "explorer.ipynb")
    quiet = tmp_path / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}))
    port = free_port()
    environment = {
        **os.environ,
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "workspaces"),
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        *("--ServerApp.port_retries=0", f"--ServerApp.root_dir={tmp_path / 'work'}"),
        "--IdentityProvider.token=explorer",
    ]
    with (tmp_path / "lab.log").open("w") as log:
        lab = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/api", lab, tmp_path / "lab.log")
        yield f"http://127.0.0.1:{port}/lab/tree/explorer.ipynb?token=explorer&reset"
    finally:
        lab.terminate()
        lab.wait(timeout=30)


def wait_for(url: str, process: subprocess.Popen, log: Path, limit_s: float = 90) -> None:
    """Wait until a server answers."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"JupyterLab did not answer within {limit_s} s:\n{log.read_text()}")


@pytest.fixture
def page(tmp_path: Path):
    """A browser's page, and the errors it reports."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium): the explorer was not looked at")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1400, "height": 1500})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


def row_of(page, c: int) -> list[str]:
    """Threshold, F1, precision, recall, hits, false alarms and misses of a class, as they stand on the page."""
    return page.locator(".sedsoft-row").nth(c + 1).inner_text().split()


def settled_row(page, c: int) -> list[str]:
    """The same, once it has stood still for a second: a busy kernel is behind the hand."""
    seen = [row_of(page, c)]
    while len(seen) < 4 or any(row != seen[-1] for row in seen[-4:]):
        assert len(seen) < 100, f"the row keeps changing: {seen[-4:]}"
        page.wait_for_timeout(300)
        seen.append(row_of(page, c))
    return seen[-1]


def run_the_cell(page, url: str) -> list[str]:
    """Open the notebook and run it until its explorer is there; the list that the page's errors go into."""
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    page.wait_for_function(r"() => /\| Idle$/m.test(document.querySelector('#jp-main-statusbar')?.innerText ?? '')")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.wait_for_selector(".sedsoft-explorer img")
    return errors


@pytest.mark.parametrize("lab_url", [THRESHOLDS], indirect=True, ids=["thresholds"])
def test_a_dragged_slider_moves_the_numbers(page, lab_url: str) -> None:
    errors = run_the_cell(page, lab_url)
    assert page.locator(".sedsoft-explorer .noUi-handle").count() == 17
    mean = page.locator(".sedsoft-mean")
    assert "oracle thresholds" in mean.inner_text()
    before, other = row_of(page, 1), row_of(page, 2)
    picture = page.locator(".sedsoft-explorer img").get_attribute("src")
    assert before[0] == "0.512"

    handle = page.locator(".sedsoft-explorer .noUi-handle").nth(1)
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    for step in range(1, 11):
        page.mouse.move(box["x"] + box["width"] / 2 + 5 * step, box["y"] + box["height"] / 2)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('.sedsoft-mean').innerText.includes('your own')")
    page.wait_for_function("src => document.querySelector('.sedsoft-explorer img').src !== src", arg=picture)
    after = settled_row(page, 1)
    assert float(after[0]) > 0.7
    assert int(after[4]) < int(before[4])
    assert int(after[6]) > int(before[6])
    assert row_of(page, 2) == other

    handle.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "text => document.querySelectorAll('.sedsoft-row')[2].children[1].innerText !== text", arg=after[0]
    )
    assert float(row_of(page, 1)[0]) == pytest.approx(float(after[0]) + 0.001)

    page.get_by_role("button", name="validated").click()
    page.wait_for_function("() => document.querySelector('.sedsoft-mean').innerText.includes('validated')")
    assert row_of(page, 1)[:3] == ["0.400", "–", "0.600"]
    page.get_by_role("button", name="oracle").click()
    page.wait_for_function("() => document.querySelector('.sedsoft-mean').innerText.includes('oracle')")
    assert row_of(page, 1) == before
    assert errors == []


@pytest.mark.parametrize("lab_url", [ATTENTION], indirect=True, ids=["attention"])
def test_arrow_keys_move_over_the_seconds(page, lab_url: str) -> None:
    errors = run_the_cell(page, lab_url)
    pictures = page.locator(".sedsoft-explorer img")
    assert pictures.count() == 2
    explorer, readout = page.locator(".sedsoft-explorer"), page.locator(".sedsoft-explorer .widget-readout")
    assert readout.inner_text() == "45"  # the middle
    assert "<dull>" in explorer.inner_text()
    assert "beyond the edge" not in explorer.inner_text()
    before = pictures.evaluate_all("all => all.map(image => image.src)")
    page.locator(".sedsoft-explorer .noUi-handle").focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
    page.wait_for_function(
        "old => [...document.querySelectorAll('.sedsoft-explorer img')].every((image, k) => image.src !== old[k])",
        arg=before,
    )
    assert readout.inner_text() == "46"

    page.keyboard.press("Home")
    page.wait_for_function("() => document.querySelector('.sedsoft-explorer').innerText.includes('beyond the edge')")
    page.locator(".sedsoft-explorer select").select_option("street_01")
    page.wait_for_function("() => document.querySelector('.sedsoft-explorer .widget-readout').innerText === '20'")
    page.locator(".sedsoft-explorer .noUi-handle").focus()
    page.keyboard.press("End")
    page.wait_for_function("() => document.querySelector('.sedsoft-explorer .widget-readout').innerText === '39'")
    assert errors == []


def made_up_report() -> Report:
    """The report of a made-up run with eleven classes and five folds."""
    rng = np.random.default_rng(0)
    soft = rng.random((15, 100, 11)) ** (1 + np.arange(11))
    scores = np.clip(soft + np.linspace(0.1, 0.3, 11) * rng.standard_normal(soft.shape), 0, 1)
    names = [f"{scene}_{k:02}" for k in range(3) for scene in SCENES]
    tables = {name: frame_scores(name, EVALUATED, scores[r], 1.0) for r, name in enumerate(names)}
    references = [ReferenceRecording(name, name[:-3], r // 3 + 1, 100.0, soft[r]) for r, name in enumerate(names)]
    thresholds = {fold: np.clip(0.5 + 0.06 * rng.standard_normal(11), 0, 1) for fold in range(1, 6)}
    thresholds[2][6] = np.inf
    judged = judge(tables, references, EVALUATED, thresholds)
    metrics = evaluate(judged, rng, n_resamples=100)
    losses = {"train_loss": 0.1 / np.arange(1, 9), "val_loss": 0.02 + 0.1 / np.arange(1, 9)}
    history = pd.DataFrame({"fold": 1, "epoch": np.arange(1, 9), **losses, "is_best": True})
    pictures = report_pictures(metrics, history, threshold_data(judged))
    named = {
        fold: dict(zip(EVALUATED, [None if np.isinf(x) else float(x) for x in row], strict=True))
        for fold, row in thresholds.items()
    }
    corpus = {"recordings": dict.fromkeys(names)}
    return Report("crnn, seed 0", metrics, corpus, {"seed": 0}, {"cores": 2}, named, "sedsoft_train crnn", pictures)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_report_is_read_offline(page, tmp_path: Path, scheme: str) -> None:
    path, asked, errors = tmp_path / "report.html", [], []
    path.write_text(report_html(made_up_report()), encoding="utf-8")
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_viewport_size({"width": 1100, "height": 980})
    page.emulate_media(color_scheme=scheme)
    page.goto(path.as_uri())
    assert {url.partition(":")[0] for url in asked} <= {"file", "data"}
    assert errors == []
    images = page.locator("img")
    assert images.count() == 9
    assert all(images.evaluate_all("all => all.map(image => image.complete && image.naturalWidth > 300)"))
    width = page.evaluate("() => document.documentElement.scrollWidth")
    assert width == 1100  # nothing sticks out
    cells = (
        page.locator("table")
        .first.locator("td")
        .evaluate_all("all => all.map(cell => cell.getBoundingClientRect().right)")
    )
    assert max(cells) <= 1100
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(22, 24, 27)")


def keep_picture(page, name: str, clip: dict[str, float]) -> None:
    """Write a part of the page, in 160 colours: small enough to stand beside a chapter."""
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    quantised = picture.quantize(160, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    quantised.save(Path(SCREENSHOTS) / name, optimize=True)


if SCREENSHOTS:
    HERE = f"import os\nos.chdir({str(ROOT)!r})\n"
    OF_THE_DEMO = {
        "threshold_explorer": """
from sedsoft.corpus import read_corpus
from sedsoft.experiment import judge_folder
from sedsoft.explorers import ThresholdExplorer, threshold_data
ThresholdExplorer(threshold_data(judge_folder("runs/demo", read_corpus("runs/demo_corpus"))))
""",
        "attention_explorer": """
from sedsoft.explorers import explore_attention
explore_attention()
""",
    }

    @pytest.mark.parametrize(
        "lab_url", [HERE + cell for cell in OF_THE_DEMO.values()], indirect=True, ids=list(OF_THE_DEMO)
    )
    def test_picture_of_an_explorer(page, lab_url: str, request: pytest.FixtureRequest) -> None:
        run_the_cell(page, lab_url)
        page.wait_for_timeout(2000)
        keep_picture(page, f"{request.node.callspec.id}.png", page.locator(".sedsoft-explorer").bounding_box())

    def test_picture_of_the_report(page) -> None:
        page.set_viewport_size({"width": 1100, "height": 980})
        page.goto((ROOT / "runs" / "demo" / "report.html").as_uri())
        keep_picture(page, "report.png", {"x": 0, "y": 0, "width": 1100, "height": 935})
