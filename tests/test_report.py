"""The report's odd cases: little known, hostile names, one fold, seventeen classes, a full disk."""

import base64
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sedsoft import report as report_module
from sedsoft.core import FileError, to_json, write_text
from sedsoft.explorers import ThresholdData
from sedsoft.labels import CLASSES
from sedsoft.report import (
    Picture,
    Report,
    class_rows,
    embedding_picture,
    headline,
    read_embeddings,
    report_html,
    report_pictures,
    write_report,
)
from sedsoft.runs import Config, find_config, open_run, start_run

HOSTILE = '<script>alert("1")</script>&amp;\'"$x$'


class Page(HTMLParser):
    """A page, taken apart: unclosed tags, addresses, tags and words."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, text: str):
        super().__init__()
        self.open, self.addresses, self.tags, self.words = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"
        self.words += " "

    def handle_data(self, data):
        self.words += data


def metrics_of(names: tuple[str, ...], **more: object) -> dict:
    """Plausible metrics of so many classes."""
    row = {
        "f1": 0.5,
        "f1_validated": 0.4,
        "precision": 0.6,
        "recall": 0.45,
        "threshold": 0.31,
        "n_hard": 9,
        "soft_sum": 12.0,
    }
    return {"f1_mo": 0.5, "f1_validated": 0.4, "per_class": {name: dict(row) for name in names}, "folds": [1], **more}


def bare(names: tuple[str, ...] = ("car",), **more: object) -> Report:
    """A report with nothing but metrics."""
    return Report("first", metrics_of(names, **more), {}, {}, {}, {}, "sedsoft_train first/config.toml")


def made_up_data(names: tuple[str, ...], n_segments: int = 300) -> ThresholdData:
    """One recording of a fold, in which every class sounds."""
    rng = np.random.default_rng(0)
    soft, scores = rng.random((2, n_segments, len(names)))
    half = np.full(len(names), 0.5)
    return ThresholdData(names, ("a $b$ c",), (n_segments,), (1,), scores, soft, half, {1: half})


def test_little_is_known() -> None:
    page = Page(report_html(bare()))
    assert page.open == []
    assert "–" in page.words
    assert page.words.count("NaN") == page.words.count("None") == 0
    assert "Scene by scene" not in page.words


@pytest.mark.parametrize("nothing", [None, float("nan")])
def test_what_cannot_be_told_is_a_dash(nothing: float | None) -> None:
    metrics = dict.fromkeys(("f1_mo", "f1_validated", "ci", "per_scene", "mpauc", "n_segments"), nothing)
    metrics |= {"ci": None, "per_scene": None, "folds": []}
    metrics["per_class"] = {"car": dict.fromkeys(("f1", "f1_validated", "precision", "recall", "threshold"), nothing)}
    page = Page(report_html(Report("first", metrics, {}, {}, {}, {1: {"car": None}}, "")))
    assert [card["value"] for card in headline(metrics)] == ["–", "–"]
    assert class_rows(metrics, {1: {"car": None}})[0]["validated"] == "never"
    assert not re.search(r"nan|None", page.words)
    assert "Without positives, and so left out of the means: car." in page.words
    assert "car in fold 1" in page.words


def test_hostile_names_are_text_everywhere() -> None:
    scenes = {HOSTILE: {"f1": 0.5, "f1_validated": 0.4}}
    report = replace(
        bare((HOSTILE,), per_scene=scenes),
        name=HOSTILE,
        config={HOSTILE: HOSTILE},
        environment={HOSTILE: [HOSTILE]},
        thresholds={1: {HOSTILE: None}},
        command=HOSTILE,
        pictures=[Picture("a", HOSTILE, HOSTILE, b"\x89PNG"), Picture("b", HOSTILE, HOSTILE, None, HOSTILE)],
    )
    text = report_html(report)
    page = Page(text)
    assert "script" not in page.tags
    assert page.words.count(HOSTILE) >= 10
    assert "<script" not in text
    pictures = report_pictures(report.metrics, pd.DataFrame(), made_up_data((HOSTILE,)))
    assert all(b"<script" not in (picture.image or b"") for picture in pictures)


def test_seventeen_classes_and_five_minutes_stay_small() -> None:
    bins = dict.fromkeys(("score", "label", "score_calibrated", "label_calibrated"), [k / 15 for k in range(15)])
    reliability = dict.fromkeys(CLASSES, bins)
    metrics = metrics_of(CLASSES, per_scene={"street": {"f1": 0.5, "f1_validated": 0.4}}, reliability=reliability)
    epochs = np.arange(1, 151)
    losses = {"epoch": epochs, "train_loss": 1 / epochs, "val_loss": 2 / epochs, "is_best": True}
    history = pd.concat([pd.DataFrame({"fold": fold, **losses}) for fold in range(1, 6)])
    pictures = report_pictures(metrics, history, made_up_data(CLASSES))
    text = report_html(Report("wide", metrics, {}, {}, {}, {}, "", pictures))
    page = Page(text)
    assert len(text.encode()) < 2_000_000
    assert page.tags.count("img") == 9
    assert all(name in page.words for name in CLASSES)
    for address, picture in zip(page.addresses, pictures, strict=True):
        assert base64.b64decode(address.partition(",")[2]) == picture.image
        assert b"http" not in re.sub(rb"http://(www\.w3\.org|purl\.org|creativecommons\.org)/", b"", picture.image)


def test_the_template_fetches_nothing() -> None:
    template = (resources.files("sedsoft") / "static" / "report.html.j2").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//|@import|url\(|<script|<link", template)
    assert "|safe" not in template.replace(" ", "")


def test_chance_is_shown_where_it_is_known() -> None:
    assert "chance" not in report_html(bare())
    assert "38.2 %" in Page(report_html(bare(chance=0.3823))).words


def test_soft_truth_is_shown_where_it_was_measured() -> None:
    assert "Against the soft labels" not in Page(report_html(bare())).words
    measured = {"f_soft": 0.612, "precision_soft": 0.7, "recall_soft": 0.55, "brier": 0.02, "kl": 0.1, "ece": 0.05}
    names = (HOSTILE, "dog")
    metrics = metrics_of(names, **measured, brier_calibrated=0.019, kl_calibrated=None, n_clipped=1234)
    metrics["per_class"]["dog"] |= {**measured, "f_soft": None}
    text = report_html(replace(bare(names), metrics=metrics))
    page = Page(text)
    assert page.open == []
    assert "<script" not in text
    assert "1,234 of them" in page.words
    words = page.words[page.words.index("Against the soft labels") : page.words.index("Other measures")].split()
    assert words[-10:] == ["mean", "70.0", "55.0", "61.2", "0.020", "0.019", "0.100", "–", "0.050", "–"]
    assert words[-20:-10] == ["dog", "70.0", "55.0", "–", "0.020", "–", "0.100", "–", "0.050", "–"]


@pytest.mark.parametrize(("folds", "words"), [([3], "1 fold"), ([1, 2, 3, 4, 5], "5 folds")])
def test_the_number_of_folds_is_said(folds: list[int], words: str) -> None:
    page = Page(report_html(bare(folds=folds)))
    assert re.search(rf"{words}\b(?!s)", page.words)


def test_figures_of_the_interval() -> None:
    cards = headline(metrics_of(("car",), ci={"f1_mo": [0.4567, 0.5432], "f1_validated": None}))
    assert [card["interval"] for card in cards] == ["95 % interval 45.7 to 54.3", ""]


@pytest.fixture
def run(tmp_path: Path):
    """A run that was evaluated, with neither history nor thresholds."""
    corpus = {
        "fingerprint": "5eed",
        "recordings": {},
        "classes": ["car"],
        "evaluated": ["car"],
        "folds": {"1": {}, "2": {}},
    }
    run = start_run(tmp_path / "street", Config(), corpus)
    write_text(run.path / "metrics.json", to_json(metrics_of(("car",))))
    return run


def test_a_run_without_history_and_labels(run) -> None:
    page = Page(write_report(run).read_text(encoding="utf-8"))
    assert "no history of a training" in page.words
    assert sorted(path.name for path in (run.path / "figures").iterdir()) == [
        "class_counts.svg",
        "class_f1.svg",
        "precision_recall.svg",
    ]


def test_the_command_at_the_end_runs_as_printed(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.path.rename(tmp_path / "my street")
    monkeypatch.chdir(tmp_path)
    command = Page(write_report(open_run("my street")).read_text(encoding="utf-8")).words.split("sedsoft_train")[1]
    _, config, _, _, _, out = shlex.split("sedsoft_train" + command.splitlines()[0])[:6]
    assert find_config(config) == run.config
    assert out == "my street-again"


def test_pictures_that_need_labels_are_kept(run) -> None:
    write_report(run, made_up_data(("car",)))
    kept = (run.path / "figures" / "timeline.png").read_bytes()
    page = write_report(run).read_text(encoding="utf-8")
    assert base64.b64encode(kept).decode() in page
    assert (run.path / "figures" / "timeline.png").read_bytes() == kept


def test_a_full_disk_leaves_the_old_page(run, monkeypatch: pytest.MonkeyPatch) -> None:
    before = write_report(run).read_bytes()

    def fail(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(report_module, "write_text", fail)
    with pytest.raises(OSError, match="No space left"):
        write_report(run)
    assert (run.path / "report.html").read_bytes() == before
    assert not [path for path in run.path.rglob(".*")]


def test_means_and_scenes_stand_in_their_columns() -> None:
    scene = {"f1": 0.61, "f1_validated": None, "n_hard": 1234, "n_segments": 5000}
    words = Page(report_html(bare(per_scene={"street": scene}))).words.split()
    mean = [k for k, word in enumerate(words) if word == "mean"]
    assert ["50.0", "40.0"] in [words[k + 1 : k + 3] for k in mean]
    street = words.index("street")
    assert words[street + 1 : street + 5] == ["61.0", "–", "1,234", "5,000"]


def test_only_what_was_never_said_is_called_so() -> None:
    page = report_html(replace(bare(("car", "dog")), thresholds={1: {"car": None}, 2: {"car": 0.4, "dog": 0.3}}))
    assert "recordings: car in fold 1." in Page(page).words
    assert "Never said" not in report_html(replace(bare(("car", "dog")), thresholds={1: {"car": 0.5}}))


def test_chance_is_drawn_where_it_is_known() -> None:
    with_chance, without = (
        report_pictures(bare(chance=chance).metrics, pd.DataFrame(), None)[0] for chance in (0.4, None)
    )
    assert with_chance.image != without.image


@pytest.mark.parametrize("validated", [True, False])
def test_the_timeline_is_that_of_the_fullest_recording(monkeypatch: pytest.MonkeyPatch, validated: bool) -> None:
    soft = np.zeros((30, 2))
    soft[5, 0], soft[15:17] = 1, 1  # one class in the first recording, two in the second, none in the third
    thresholds = {1: np.array([0.1, 0.2]), 2: np.array([0.3, 0.4])} if validated else {}
    oracle = np.array([0.5, 0.6])
    scores = np.random.default_rng(0).random(soft.shape)
    data = ThresholdData(("car", "dog"), ("a", "b", "c"), (10, 10, 10), (1, 2, 1), scores, soft, oracle, thresholds)
    drawn = []
    plot = report_module.plot_timeline
    monkeypatch.setattr(report_module, "plot_timeline", lambda *data: drawn.append(data) or plot(*data))
    report_pictures(metrics_of(("car", "dog")), pd.DataFrame(), data)
    assert (drawn[0][0] == soft[10:20]).all()
    assert (drawn[0][1] == scores[10:20]).all()
    assert drawn[0][3].tolist() == ([0.3, 0.4] if validated else [0.5, 0.6])
    assert drawn[0][4].get_xlabel() == "time (s) in b"


def clustered_data() -> tuple[ThresholdData, dict[str, np.ndarray]]:
    """Three recordings in two folds, whose embeddings are their soft labels."""
    soft = np.tile(np.repeat(np.eye(2), 10, axis=0), (3, 1))
    half = np.full(2, 0.5)
    data = ThresholdData(("car", "dog"), ("a", "b", "c"), (20, 20, 20), (2, 1, 2), soft, soft, half, {})
    rng = np.random.default_rng(0)
    return data, {name: soft[:20] + 0.01 * rng.standard_normal((20, 2)) for name in data.names}


def test_the_embeddings_are_those_of_one_whole_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    data, embeddings = clustered_data()
    drawn = []
    plot = report_module.plot_embedding
    monkeypatch.setattr(report_module, "plot_embedding", lambda *given: drawn.append(plot(*given)) or drawn[-1])
    assert embedding_picture(data, embeddings).image
    assert drawn[0].get_xlabel().startswith("of a segment in fold 1, 90.0 % of the 10 nearest neighbours in its one")
    del embeddings["b"]
    assert embedding_picture(data, embeddings).suffix == "png"
    assert drawn[1].get_xlabel().startswith("of a segment in fold 2, 100.0 % of the 10 nearest neighbours in other")
    assert "50.0 % by chance; silhouette 0.9" in drawn[1].get_xlabel()
    assert [len(group.get_offsets()) for group in drawn[1].collections] == [20, 20]
    again = embedding_picture(data, embeddings)
    assert again == embedding_picture(data, embeddings)


def test_why_there_is_no_picture_of_embeddings() -> None:
    data, embeddings = clustered_data()
    assert embedding_picture(data, {"b": embeddings["b"][:, :1]} | {"a": embeddings["a"]}).reason.startswith("20 segm")
    assert embedding_picture(data, {"a": embeddings["a"]}).reason == "the run has kept no embeddings"
    one_class = replace(data, soft=data.soft[:, :1].repeat(2, axis=1) * [1, 0.5])
    assert "classes [0] occur" in embedding_picture(one_class, embeddings).reason
    silent = replace(data, soft=0.5 * data.soft)
    assert "0 segments" in embedding_picture(silent, embeddings).reason


def test_embeddings_are_read_where_they_are(run) -> None:
    (run.path / "embeddings").mkdir()
    np.savez(run.path / "embeddings" / "a.npz", embeddings=np.eye(3))
    found = read_embeddings(run, ["a", "b"])
    assert list(found) == ["a"]
    assert (found["a"] == np.eye(3)).all()
    (run.path / "embeddings" / "b.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(FileError, match="b.npz: damaged"):
        read_embeddings(run, ["a", "b"])
