"""The explorers' odd cases: no positives, no validated thresholds, raw scores, wrong shapes; no attention."""

import asyncio
from dataclasses import replace
from pathlib import Path

import ipywidgets as widgets
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose
from toy import toy_config, write_toy

from sedsoft import explorers
from sedsoft.core import FileError, with_settings
from sedsoft.corpus import describe
from sedsoft.evaluation import ReferenceRecording, judge
from sedsoft.explorers import (
    AttentionData,
    AttentionExplorer,
    AttentionState,
    Choose,
    GoTo,
    Move,
    SetAll,
    ThresholdData,
    ThresholdExplorer,
    ThresholdState,
    attention_data,
    attention_figure,
    attention_shares,
    attention_text,
    class_counts,
    explore_attention,
    in_common,
    panel,
    read_attention,
    shown_segment,
    slider_range,
    starts,
    threshold_data,
    timeline_figure,
    update,
    update_attention,
)
from sedsoft.features import read_features
from sedsoft.metrics import count_decisions, decide
from sedsoft.runs import start_run
from sedsoft.scores import frame_scores
from sedsoft.thresholds import decide_by_fold

NAMES = ("car", "<b>dog</b>", "never")


def made_up(seed: int = 0, *, raw: bool = False, validated: bool = True) -> ThresholdData:
    """Three recordings of unlike length, two folds, tied scores, and a class that never sounds."""
    rng = np.random.default_rng(seed)
    soft = rng.random((60, 3)).round(1)
    soft[:, 2] = 0.2
    scores = (rng.random((60, 3)) * (4 if raw else 1) - (2 if raw else 0)).round(2)
    known = {1: np.array([0.5, 0.3, np.inf]), 3: np.array([0.41, np.inf, np.inf])} if validated else {}
    return ThresholdData(
        NAMES, ("a", "b", "c"), (10, 30, 20), (3, 1, 3), scores, soft, np.array([0.2, 0.4, np.nan]), known
    )


def children(widget: widgets.Widget, kind: type) -> list:
    """All widgets of a kind below one."""
    found = [widget] if isinstance(widget, kind) else []
    return found + [each for child in getattr(widget, "children", ()) for each in children(child, kind)]


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_every_decision(seed: int) -> None:
    data = made_up(seed, raw=seed % 2 == 1)
    folds = np.repeat(data.folds, data.lengths)
    thresholds = np.random.default_rng(seed).choice(data.scores.ravel(), 3)  # equal to scores: not above them
    plain = class_counts(ThresholdState(tuple(thresholds)), data)
    expected = count_decisions(decide(data.scores, thresholds), data.soft > 0.5)
    assert_allclose(plain[["tp", "fp", "fn"]], expected)
    by_fold = class_counts(ThresholdState((None,) * 3), data)
    expected = count_decisions(decide_by_fold(data.scores, folds, data.validated), data.soft > 0.5)
    assert_allclose(by_fold[["tp", "fp", "fn"]], expected)


def test_one_class_by_fold_and_one_by_hand() -> None:
    data = made_up()
    mixed = class_counts(ThresholdState((None, 0.7, 0.1)), data)
    assert mixed.loc["car"].equals(class_counts(ThresholdState((None,) * 3), data).loc["car"])
    assert_allclose(mixed.loc["<b>dog</b>"], class_counts(ThresholdState((0.7,) * 3), data).loc["<b>dog</b>"])


def test_a_class_without_positives_has_a_dash() -> None:
    data = made_up()
    assert starts(data)["oracle"] == (0.2, 0.4, np.inf)
    shown = panel(ThresholdState(starts(data)["oracle"]), data)
    assert "<b>–</b>" in shown.rows[2]
    assert "never" in shown.rows[2]
    assert shown.sliders[2] == 1
    f1 = class_counts(ThresholdState(starts(data)["oracle"]), data)["f1"]
    assert f"<b>{100 * f1[:2].mean():.1f}</b>" in shown.mean  # the mean leaves it out


def test_without_validated_thresholds_there_is_no_such_start() -> None:
    data = made_up(validated=False)
    assert list(starts(data)) == ["oracle", "0.5"]
    assert [button.description for button in children(ThresholdExplorer(data).widget, widgets.Button)] == [
        "oracle",
        "0.5",
    ]


def test_raw_scores_widen_the_sliders() -> None:
    data = made_up(raw=True)
    low, high = slider_range(data)
    assert (low, high) == (data.scores.min(), data.scores.max())
    sliders = children(ThresholdExplorer(data).widget, widgets.FloatSlider)
    assert [(slider.min, slider.max) for slider in sliders] == [(low, high)] * 3


def test_hills_and_marks_are_where_the_sliders_are() -> None:
    data = made_up(raw=True)
    low, high = slider_range(data)
    points = np.array([point.split() for point in data.hills[0].split("L")], dtype=float)
    assert_allclose(points[:, 0], np.arange(101))
    for x, y in points[::20]:
        f1 = class_counts(ThresholdState((low + (high - low) * x / 100,) * 3), data)["f1"].iloc[0]
        assert_allclose(22 - y, 20 * f1, atol=0.051)  # tenths of a unit
    quarter = panel(ThresholdState((0.75 * low + 0.25 * high,) * 3), data)
    assert all("M25.0 0V22" in row for row in quarter.rows)


def test_names_are_text_not_html() -> None:
    html = "".join(each.value for each in children(ThresholdExplorer(made_up()).widget, widgets.HTML))
    assert "&lt;b&gt;dog" in html
    assert "<b>dog" not in html


def test_a_hand_on_the_controls() -> None:
    explorer = ThresholdExplorer(made_up())
    sliders = children(explorer.widget, widgets.FloatSlider)
    buttons = {button.description: button for button in children(explorer.widget, widgets.Button)}
    picture = children(explorer.widget, widgets.Image)[0]
    assert sliders[0].value == 0.2
    sliders[0].value = 0.2004  # what a browser sends back when it rounds to a step
    assert explorer.state.thresholds == (0.2, 0.4, np.inf)
    before = picture.value
    sliders[0].value = 0.201
    assert explorer.state.thresholds == (0.201, 0.4, np.inf)
    sliders[1].value = 0.9
    assert picture.value != before
    buttons["validated"].click()
    assert explorer.state.thresholds == (None, None, None)
    assert_allclose(sliders[0].value, (0.5 + 0.41) / 2)
    buttons["oracle"].click()
    assert explorer.state == ThresholdState((0.2, 0.4, np.inf), 0)
    before = picture.value
    children(explorer.widget, widgets.Dropdown)[0].value = 2
    assert explorer.state.recording == 2
    assert picture.value != before


def test_in_a_kernel_the_picture_waits_until_the_hand_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def draw(state: ThresholdState, data: ThresholdData) -> Figure:
        drawn.append(state.thresholds[0])
        return timeline_figure(state, data)

    async def drag() -> None:
        slider = children(explorer.widget, widgets.FloatSlider)[0]
        for position in (0.5, 0.9, 0.1):
            slider.value = position
            for _ in range(3):  # a few turns of the loop, but no time
                await asyncio.sleep(0)
        assert drawn == []
        await asyncio.sleep(0.6)

    explorer = ThresholdExplorer(made_up())
    monkeypatch.setattr(explorers, "timeline_figure", draw)
    asyncio.run(drag())
    assert drawn == [0.1]  # the last position alone


def test_the_state_is_never_changed() -> None:
    state = ThresholdState((0.1, None, 0.3), 1)
    for event in (Move(2, 0.9), SetAll((0.5,) * 3), Choose(0)):
        assert update(state, event) != state
    assert state == ThresholdState((0.1, None, 0.3), 1)
    with pytest.raises(ValueError, match="unknown event 'up'"):
        update(state, "up")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": (10, 30, 21)}, r"scores have shape \(60, 3\), recordings and classes make \(61, 3\)"),
        ({"soft": np.zeros((60, 2))}, r"soft labels have shape \(60, 2\)"),
        ({"names": ("a", "b")}, "2 names, 3 lengths, 3 folds"),
        ({"validated": {1: np.zeros(3)}}, "no validated thresholds for fold 3"),
        ({"oracle": np.zeros(2)}, r"oracle thresholds have shape \(2,\), must be \(3,\)"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict, message: str) -> None:
    fields = {name: getattr(made_up(), name) for name in ThresholdData.__dataclass_fields__}
    with pytest.raises(ValueError, match=message):
        ThresholdData(**{**fields, **change})


def test_data_from_an_evaluation() -> None:
    data = made_up()
    references = [
        ReferenceRecording(name, "street", fold, float(length), data.soft[data.rows(r)][:, :2])
        for r, (name, fold, length) in enumerate(zip(data.names, data.folds, data.lengths, strict=True))
    ]
    tables = {
        name: frame_scores(name, NAMES[:2], data.scores[data.rows(r)][:, :2], 1.0) for r, name in enumerate(data.names)
    }
    thresholds = {fold: row[:2] for fold, row in data.validated.items()}
    explored = threshold_data(judge(tables, references, NAMES[:2], thresholds))
    assert (explored.names, explored.lengths, explored.folds) == (data.names, data.lengths, data.folds)
    assert_allclose(explored.scores, data.scores[:, :2])
    assert_allclose(explored.soft, data.soft[:, :2])
    assert threshold_data(judge(tables, references, NAMES[:2])).validated == {}


# --- attention ------------------------------------------------------------------------------------------------------


def looked_at(name: str = "run", lengths: tuple[int, ...] = (12, 5), context_s: int = 7, fps: int = 5) -> AttentionData:
    """A run whose weights are drawn at random."""
    rng = np.random.default_rng(len(name))
    weights = [rng.random((n, context_s * fps)) for n in lengths]
    weights = tuple(rows / rows.sum(axis=1, keepdims=True) for rows in weights)
    features = tuple(rng.standard_normal((n * fps, 8)) for n in lengths)
    return AttentionData(name, tuple(f"park_{k}" for k in range(len(lengths))), features, weights, 1 / fps)


@pytest.mark.parametrize("fps", [5, 20])
@pytest.mark.parametrize("segment", [0, 3, 6, 11])
def test_weights_stand_at_the_seconds_they_belong_to(fps: int, segment: int) -> None:
    data = looked_at(fps=fps)
    above, below = attention_figure(AttentionState(0, segment), data).axes
    outside, inside = (patch.get_data() for patch in below.patches[:2])
    at_s = (outside.edges[:-1] + outside.edges[1:]) / 2  # middles of the frames
    assert_allclose(at_s[[0, -1]], [segment - 3 + 0.5 / fps, segment + 4 - 0.5 / fps])
    within = (at_s > 0) & (at_s < 12)
    weights = data.weights[0][segment] * 7 * fps
    assert_allclose(inside.values, np.where(within, weights, 0))
    assert_allclose(outside.values, np.where(within, 0, weights))
    frames = np.flatnonzero(within) + (segment - 3) * fps
    assert_allclose(above.images[0].get_array(), data.features[0][frames].T)
    assert_allclose(above.images[0].get_extent()[:2], [max(0, segment - 3), min(12, segment + 4)])
    assert below.patches[2].get_x() == above.patches[0].get_x() == segment
    assert above.get_xlim() == below.get_xlim() == pytest.approx((segment - 3, segment + 4))


def test_a_context_longer_than_the_recording_is_grey_on_both_sides() -> None:
    data = looked_at(lengths=(2,), context_s=9)
    below = attention_figure(AttentionState(0, 1), data).axes[1]
    assert np.count_nonzero(below.patches[1].get_data().values) == 10
    assert "beyond the edge" in attention_text(AttentionState(0, 1), data)
    with_all = attention_shares(data.weights[0][1], 1, 2, 5, near_s=4)
    assert with_all["near"] == pytest.approx(1)
    assert with_all["beyond"] == pytest.approx(1 - data.weights[0][1].reshape(9, 5).sum(1)[3:5].sum())


def test_the_axis_stands_still_while_one_moves() -> None:
    data = looked_at()
    tops = [attention_figure(AttentionState(0, k), data).axes[1].get_ylim()[1] for k in range(12)]
    assert len(set(np.round(tops, 9))) <= 3  # but for the few seconds above the 95 %
    assert all(top >= 35 * data.weights[0][k].max() for k, top in enumerate(tops))


def test_a_hand_on_attention() -> None:
    runs = looked_at("sharp"), looked_at("<dull>")
    explorer = AttentionExplorer(*runs)
    slider = children(explorer.widget, widgets.IntSlider)[0]
    pictures = children(explorer.widget, widgets.Image)
    assert (slider.value, slider.max) == (6, 11)
    before = [picture.value for picture in pictures]
    slider.value = 7
    assert explorer.state == AttentionState(0, 7)
    assert all(picture.value != old for picture, old in zip(pictures, before, strict=True))
    slider.value = 11
    children(explorer.widget, widgets.Dropdown)[0].value = 1  # a shorter one: the slider's end moves below its value
    assert explorer.state == AttentionState(1)
    assert (slider.value, slider.max) == (2, 4)
    explorer.send(Choose(0))
    assert (slider.value, slider.max) == (6, 11)
    html = "".join(each.value for each in children(explorer.widget, widgets.HTML))
    assert "&lt;dull&gt;" in html
    assert "<dull>" not in html
    begun = AttentionExplorer(runs[0], state=AttentionState(1, 4))
    assert children(begun.widget, widgets.IntSlider)[0].value == 4
    assert children(begun.widget, widgets.Dropdown)[0].value == 1


def test_in_a_kernel_one_picture_is_due_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def draw(state: AttentionState, data: AttentionData) -> Figure:
        drawn.append(state.segment)
        return attention_figure(state, data)

    async def drag() -> None:
        for segment in (7, 8, 9):
            children(explorer.widget, widgets.IntSlider)[0].value = segment
            for _ in range(3):
                await asyncio.sleep(0)
        assert drawn == []
        await asyncio.sleep(0.6)
        explorer.send(GoTo(2))  # the next one is asked for again
        await asyncio.sleep(0.6)

    explorer = AttentionExplorer(looked_at())
    monkeypatch.setattr(explorers, "attention_figure", draw)
    asyncio.run(drag())
    assert drawn == [9, 2]


def test_attention_state_is_never_changed() -> None:
    state = AttentionState(1, 3)
    assert update_attention(state, GoTo(4)) == AttentionState(1, 4)
    assert update_attention(state, Choose(0)) == AttentionState(0, None)
    assert state == AttentionState(1, 3)
    assert shown_segment(AttentionState(0, -5), looked_at()) == 0
    with pytest.raises(ValueError, match="unknown event 'up'"):
        update_attention(state, "up")


def test_runs_are_brought_to_the_recordings_they_share() -> None:
    one, two = looked_at("one", (4, 6, 8)), looked_at("other", (6, 8, 4))
    two = replace(two, names=("park_1", "park_2", "park_9"))
    first, second = in_common([one, two])
    assert first.names == second.names == ("park_1", "park_2")
    assert [len(rows) for rows in second.weights] == [6, 8]
    assert_allclose(second.weights[0], two.weights[0])
    assert_allclose(first.features[1], one.features[2])
    with pytest.raises(ValueError, match="park_2 has 8, 7 segments"):
        in_common([one, replace(looked_at("x", (6, 7, 4)), names=two.names)])
    with pytest.raises(ValueError, match="no recording is in all of 0 runs"):
        AttentionExplorer()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"weights": np.full((3, 35), 1 / 35), "context_s": 41.0, "hop_s": 0.2},
            r"weights have shape \(3, 35\).*41 s",
        ),
        ({"weights": np.full((3, 35), 1 / 35), "hop_s": 0.2}, "damaged"),
        (None, "damaged"),
    ],
)
def test_what_is_no_attention_is_named(tmp_path: Path, arrays: dict | None, message: str) -> None:
    path = tmp_path / "attention" / "shop" / "a.npz"
    path.parent.mkdir(parents=True)
    if arrays is None:
        path.write_bytes(b"PK\x03\x04 not much of a file")
    else:
        np.savez(path, **arrays)
    with pytest.raises(FileError, match=f"shop/a.npz: {message}"):
        read_attention(tmp_path)


def test_attention_of_two_kinds_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "attention").mkdir()
    for name, hop_s in (("a", 0.2), ("b", 0.05)):
        np.savez(tmp_path / "attention" / name, weights=np.zeros((3, round(1 / hop_s))), context_s=1.0, hop_s=hop_s)
    with pytest.raises(FileError, match="unlike hop_s, 0.05 and 0.2"):
        read_attention(tmp_path)


def test_attention_of_a_backbone_that_sums_up_blocks_is_drawn_on_its_clock(tmp_path: Path) -> None:
    corpus = write_toy(tmp_path / "corpus", n_recordings=3, n_segments=6)
    config = with_settings(toy_config(), ["model.backbone.block=5"])
    run, name = start_run(tmp_path / "run", config, describe(corpus)), corpus.recordings[0].name
    (run.path / "attention").mkdir()
    np.savez(run.path / "attention" / f"{name}.npz", weights=np.full((6, 7), 1 / 7, np.float32), context_s=7, hop_s=1)
    data = attention_data(run.path, corpus)
    heard = read_features(corpus[name].audio, config.features)
    assert_allclose(data.features[0], [heard[k : k + 5].mean(axis=0) for k in range(0, 30, 5)], rtol=1e-6)


def test_attention_from_run_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = write_toy(tmp_path / "runs" / "demo_corpus", n_recordings=3, n_segments=6)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with pytest.raises(FileError, match="demo_attention: not here nor above: `make demo` writes it"):
        explore_attention()
    for name in ("demo_attention", "plain"):
        start_run(tmp_path / "runs" / name, toy_config(), describe(corpus))
    with pytest.raises(FileError, match="this run's model has no attention: train one with"):
        explore_attention()
    names = [recording.name for recording in corpus.recordings[:2]]
    (tmp_path / "runs" / "demo_attention" / "attention").mkdir()
    for name in names:
        path = tmp_path / "runs" / "demo_attention" / "attention" / f"{name}.npz"
        np.savez(path, weights=np.full((6, 35), 1 / 35, np.float32), context_s=7, hop_s=0.2)
    data = attention_data("../runs/demo_attention", corpus)
    assert (data.run, data.names, data.hop_s) == ("demo_attention", tuple(names), 0.2)
    assert_allclose(data.features[1], read_features(corpus[names[1]].audio, toy_config().features))
    assert explore_attention().runs[0].names == tuple(names)
    both = explore_attention("../runs/demo_attention", tmp_path / "runs" / "demo_attention", data=corpus.root)
    assert len(children(both.widget, widgets.Image)) == 2
    other = write_toy(tmp_path / "other", n_recordings=4, n_segments=6)
    with pytest.raises(FileError, match="another corpus"):
        explore_attention("../runs/demo_attention", data=other.root)
    assert [*(tmp_path / "below").iterdir()] == []
