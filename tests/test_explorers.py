"""The explorer's odd cases: no positives, no validated thresholds, raw scores, wrong shapes."""

import asyncio

import ipywidgets as widgets
import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from sedsoft import explorers
from sedsoft.evaluation import ReferenceRecording, judge
from sedsoft.explorers import (
    Choose,
    Move,
    SetAll,
    ThresholdData,
    ThresholdExplorer,
    ThresholdState,
    class_counts,
    panel,
    slider_range,
    starts,
    threshold_data,
    timeline_figure,
    update,
)
from sedsoft.metrics import count_decisions, decide
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
