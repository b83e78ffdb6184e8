"""Edge cases of the pictures: what is drawn when there is little, nothing, or something odd to draw."""

import maestro
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.testing import assert_allclose, assert_array_equal

from sedsoft import plots
from sedsoft.labels import CLASSES, EVALUATED

RNG = np.random.default_rng(0)
NAMES = ("car", "footsteps", "dog $5 & <b>")
SOFT = RNG.random((40, 3)).round(1)
SCORES = RNG.random((40, 3))
HARD = SOFT > 0.5
PER_CLASS = {name: {"f1": 0.5, "f1_validated": 0.4, "precision": 0.6, "recall": 0.4} for name in NAMES}
LOSSES = {"train_loss": [2.0, 1.0], "val_loss": [2.0, 3.0]}
HISTORY = pd.DataFrame({"fold": 1, "epoch": [1, 2], **LOSSES, "is_best": [True, False]})
COUNTS = pd.DataFrame({"n_hard": [5, 0, 300], "soft_sum": [7.0, 0.4, 200.0]}, index=list(NAMES))
CLASS_OF = RNG.choice([-1, 0, 1, 2], 40)
CURVES = {name: {"score": [0.1, 0.9], "label": [0.0, 1.0], "score_calibrated": None} for name in NAMES}
DRAWN = {
    "class_counts": lambda ax: plots.plot_class_counts(COUNTS, ax),
    "losses": lambda ax: plots.plot_losses(HISTORY, ax),
    "class_f1": lambda ax: plots.plot_class_f1({"f1_mo": 0.5, "per_class": PER_CLASS}, ax),
    "precision_recall": lambda ax: plots.plot_precision_recall(PER_CLASS, ax),
    "threshold_curve": lambda ax: plots.plot_threshold_curve(SCORES[:, 0], HARD[:, 0], 0.5, [0.4], ax),
    "scene_f1": lambda ax: plots.plot_scene_f1({"a $b$": {"f1": 0.1, "f1_validated": 0.2}}, ax),
    "timeline": lambda ax: plots.plot_timeline(SOFT, SCORES, NAMES, np.full(3, 0.5), ax),
    "label_map": lambda ax: plots.plot_label_map(SOFT, NAMES, ax),
    "scores_by_label": lambda ax: plots.plot_scores_by_label(SCORES, HARD, NAMES, ax),
    "reliability": lambda ax: plots.plot_reliability(CURVES, ax),
    "features": lambda ax: plots.plot_features(SCORES, 0.2, ax),
    "embedding": lambda ax: plots.plot_embedding(SCORES[:, :2], CLASS_OF, NAMES, ax),
}


@pytest.fixture(autouse=True)
def closed_figures():
    """No figure is left open for the next test."""
    yield
    plt.close("all")


@pytest.mark.parametrize("name", DRAWN)
def test_draws_on_the_given_axes_alone(name: str) -> None:
    before = dict(mpl.rcParams)
    figure = Figure(figsize=(5, 3), layout="constrained")
    ax, other = figure.subplots(2)
    assert DRAWN[name](ax) is ax
    assert not other.has_data()
    assert other.get_legend() is None
    assert plt.get_fignums() == []  # neither made nor shown
    assert dict(mpl.rcParams) == before
    assert plots.to_svg(figure).startswith(b"<?xml")  # and it can be rendered, odd names included


@pytest.mark.parametrize("name", DRAWN)
def test_makes_a_figure_if_none_is_given(name: str) -> None:
    ax = DRAWN[name](None)
    assert plt.get_fignums() == [ax.figure.number]
    drawn = plots.to_png(ax.figure)
    assert drawn.startswith(b"\x89PNG")
    assert drawn == plots.to_png(DRAWN[name](None).figure)


@pytest.mark.parametrize("name", DRAWN)
def test_input_stays_as_it_is(name: str) -> None:
    arrays = [array.copy() for array in (SOFT, SCORES, HARD)]
    frames = [HISTORY.copy(), COUNTS.copy()]
    DRAWN[name](None)
    for array, kept in zip((SOFT, SCORES, HARD), arrays, strict=True):
        assert_array_equal(array, kept)
    for frame, kept in zip((HISTORY, COUNTS), frames, strict=True):
        pd.testing.assert_frame_equal(frame, kept)


def oklab(colour: str) -> np.ndarray:
    """A colour in OKLab, where distances are about as large as they look. Source: Ottosson 2020."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    red, green, blue = linear
    long = 0.41222147 * red + 0.53633254 * green + 0.05144599 * blue
    medium = 0.2119035 * red + 0.68069955 * green + 0.10739696 * blue
    short = 0.08830246 * red + 0.28171884 * green + 0.6299787 * blue
    to_lab = [[0.210454, 0.793618, -0.004072], [1.977998, -2.428592, 0.450594], [0.025904, 0.782772, -0.808676]]
    return np.array(to_lab) @ np.cbrt([long, medium, short])


def test_the_seventeen_colours_are_told_apart() -> None:
    colours = plots.class_colours(CLASSES)
    assert tuple(colours) == CLASSES
    points = np.array([oklab(colour) for colour in colours.values()])
    distances = np.linalg.norm(points[:, None] - points[None], axis=-1)[np.triu_indices(17, 1)]
    assert distances.min() > 0.11
    assert points[:, 0].max() < 0.82  # none too light on white


def test_own_classes_get_colours_that_stay() -> None:
    own = [f"class {k}" for k in range(17)]
    colours = plots.class_colours(own)
    assert len(set(colours.values())) == 17
    assert plots.class_colours(own[::-1]) == colours
    more = plots.class_colours([*own, "another", "car"])
    assert len(more) == 19  # colours come twice, no error
    assert more["car"] == plots.class_colours(["car"])["car"]
    assert plots.class_colours([]) == {}
    assert plots.class_colours(["dog"]) == {"dog": "#a28acd"}  # the same in every version


def test_a_zero_count_is_on_the_axis() -> None:
    ax = plots.plot_class_counts(COUNTS)
    assert ax.get_xlim()[0] == 0
    assert ax.get_xlim()[1] > 300
    assert plots.plot_class_counts(COUNTS.iloc[[0, 2]]).get_xlim()[0] == 1


def test_figure_1_has_the_counts_of_the_real_labels() -> None:
    real = maestro.read()
    soft = np.concatenate([*real.soft.values()])
    counts = pd.DataFrame({"n_hard": (soft > 0.5).sum(axis=0), "soft_sum": soft.sum(axis=0)}, index=EVALUATED)
    ax = plots.plot_class_counts(counts)
    names = [text.get_text() for text in ax.get_yticklabels()]
    hard = dict(zip(names, ax.collections[2].get_offsets()[:, 0], strict=True))
    sums = dict(zip(names, ax.collections[1].get_offsets()[:, 0], strict=True))
    assert hard == {
        "birds_singing": 1472,
        "car": 3513,
        "people talking": 5703,
        "footsteps": 1444,
        "children voices": 183,
        "wind_blowing": 141,
        "brakes_squeaking": 110,
        "large_vehicle": 689,
        "cutlery and dishes": 170,
        "metro approaching": 452,
        "metro leaving": 299,
    }
    expected = [1318.1, 2885.2, 5008.2, 2998.5, 792.6, 625.4, 477.2, 960.2, 715.8, 806.2, 737.5]
    assert_allclose([*sums.values()], expected, atol=0.05)  # the numbers of the chapter
    assert ax.get_xscale() == "symlog"
    low, high = ax.get_xlim()
    assert low <= min(*hard.values(), *sums.values()) <= max(*hard.values(), *sums.values()) <= high


def test_figure_4_has_both_losses_of_five_folds() -> None:
    rng = np.random.default_rng(0)
    columns = {"epoch": np.tile(np.arange(1, 9), 5), "fold": np.repeat(np.arange(1, 6), 8)}
    losses = {"train_loss": rng.random(40), "val_loss": 1 + rng.random(40)}
    history = pd.DataFrame({**columns, **losses})
    history["is_best"] = history["val_loss"] == history.groupby("fold")["val_loss"].cummin()
    ax = plots.plot_losses(history)
    assert len(ax.lines) == 15
    for k, (_, own) in enumerate(history.groupby("fold")):
        train, val, least = ax.lines[3 * k : 3 * k + 3]
        assert_allclose(train.get_xydata(), own[["epoch", "train_loss"]])
        assert_allclose(val.get_xydata(), own[["epoch", "val_loss"]])
        assert_allclose(least.get_ydata(), [own["val_loss"].min()])
        assert train.get_color() == val.get_color() == least.get_color()
        assert train.get_linestyle() != val.get_linestyle()
    assert len({line.get_color() for line in ax.lines}) == 5


def test_rare_classes_are_drawn_on_top() -> None:
    class_of = np.array([1] * 30 + [2] * 3 + [-1] * 50 + [0] * 8)
    points = RNG.random((91, 2))
    ax = plots.plot_embedding(points, class_of, NAMES)
    assert [len(group.get_offsets()) for group in ax.collections] == [50, 30, 8, 3]
    colours = [tuple(group.get_facecolor()[0, :3]) for group in ax.collections]
    own = plots.class_colours(NAMES)
    assert colours == [to_rgb("0.8"), *(to_rgb(own[NAMES[c]]) for c in (1, 0, 2))]
    assert_allclose(ax.collections[3].get_offsets(), points[30:33])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["car 8", "footsteps 30", r"dog \$5 & <b> 3", "no class 50"]
    assert ax.get_xticks().size == ax.get_yticks().size == 0
    assert ax.get_aspect() == 1


def test_attention_is_drawn_on_the_given_axes_alone() -> None:
    weights = np.full(35, 1 / 35)
    figure = Figure()
    top, bottom, other = figure.subplots(3)
    kept = SCORES.copy(), weights.copy()
    assert plots.plot_attention(SCORES, weights, 7, 0.2, (top, bottom)) == [top, bottom]
    assert not other.has_data()
    assert top.get_xlim() == bottom.get_xlim() == (4, 11)
    assert plt.get_fignums() == []
    assert_array_equal(SCORES, kept[0])
    assert_array_equal(weights, kept[1])
    axes = plots.plot_attention(SCORES, weights, 7, 0.2)
    assert plt.get_fignums() == [axes[0].figure.number]
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels == ["target", "attention", "even", "beyond the edge"]
    inside = plots.plot_attention(SCORES, weights, 4, 0.2)
    assert "beyond the edge" not in [text.get_text() for text in inside[0].get_legend().get_texts()]
    assert axes[1].get_ylim() == (0, 1.5)  # even weights do not fill the picture
    assert plots.plot_attention(SCORES, weights, 4, 0.2, most=0.2)[1].get_ylim()[1] == pytest.approx(1.05 * 7)
    assert axes[0].images[0].get_clim() == (SCORES.min(), SCORES.max())


def test_what_has_no_f1_is_said() -> None:
    per_class = {"car": {"f1": None, "f1_validated": None}, "dog": {"f1": 0.5, "f1_validated": None}}
    ci = {"f1_mo": [0.4, 0.6], "f1_validated": None}
    metrics = {"f1_mo": 0.5, "f1_validated": None, "ci": ci, "per_class": per_class}
    ax = plots.plot_class_f1(metrics)
    said = [text for text in ax.texts if text.get_text() == "no positives"]
    assert [text.get_position()[1] for text in said] == [0]
    ends = ax.collections[-1].get_paths()[0].vertices[:, 0]
    assert_allclose(ends, [0.4, 0.6])
    assert plots.plot_class_f1({**metrics, "ci": None}).get_xlim() == (0, 1)


def test_the_best_epoch_is_the_last_that_was_best() -> None:
    history = HISTORY.assign(is_best=[True, True])
    assert plots.plot_losses(history).lines[2].get_xydata().tolist() == [[2.0, 3.0]]
    two_folds = pd.concat([HISTORY, HISTORY.assign(fold=4)])
    labels = [text.get_text() for text in plots.plot_losses(two_folds).get_legend().get_texts()]
    assert labels == ["validation", "training", "least", "fold 1", "fold 4"]


def test_chance_is_where_it_is() -> None:
    ax = plots.plot_class_f1({"f1_mo": 0.5, "per_class": PER_CLASS}, chance=0.3)
    assert ax.lines[-1].get_xdata() == [0.3, 0.3]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["oracle thresholds", "validated", "chance"]


def test_rows_run_downwards() -> None:
    for draw in ("class_counts", "class_f1", "scene_f1", "timeline", "label_map", "scores_by_label"):
        low, high = DRAWN[draw](None).get_ylim()
        assert low > high, draw


def test_time_is_in_seconds() -> None:
    ax = plots.plot_timeline(SOFT, SCORES, NAMES, np.full(3, 0.5), segment_s=0.5)
    assert ax.get_xlim() == (0, 20)
    assert_allclose(ax.lines[0].get_xdata()[:3], [0, 0.5, 1])
    hills = ax.collections[0].get_paths()[0].vertices
    assert_allclose(hills[:, 1].min(), -0.75 * SOFT[:, 0].max())
    assert plots.plot_label_map(SOFT, NAMES, segment_s=0.5).images[0].get_extent()[:2] == [0, 20]


def test_a_score_at_the_threshold_is_no() -> None:
    scores = np.array([[0.5], [0.6], [0.4]])
    ax = plots.plot_timeline(np.zeros((3, 1)), scores, ["car"], np.array([0.5]))
    decided = ax.collections[2].get_paths()
    assert [path.get_extents().intervalx.tolist() for path in decided] == [[1, 2]]


def test_thresholds_beyond_the_scores_are_not_drawn() -> None:
    ax = plots.plot_threshold_curve(SCORES[:, 0], HARD[:, 0], 0.5, [np.inf, 0.4])
    assert ax.lines[-1].get_xdata().tolist() == [0.4]
    ax = plots.plot_timeline(SOFT, SCORES, NAMES, np.array([0.5, np.inf, -0.2]))
    lines = ax.collections[-1].get_segments()
    assert_allclose([line[0, 1] for line in lines if line.size], [0 - 0.75 * 0.5])


def test_raw_scores_widen_the_threshold_axis() -> None:
    raw = 3 * SCORES[:, 0] - 1
    ax = plots.plot_threshold_curve(raw, HARD[:, 0], 0.5, [])
    assert_allclose(ax.get_xlim(), [raw.min(), raw.max()])
    assert plots.plot_threshold_curve(0.3 * SCORES[:, 0], HARD[:, 0], 0.1, []).get_xlim() == (0, 1)
    assert plots.plot_scores_by_label(3 * SCORES - 1, HARD, NAMES).get_xlim()[0] < 0


def test_boxes_hold_the_middle_half() -> None:
    ax = plots.plot_scores_by_label(SCORES, HARD, NAMES)
    colours = plots.class_colours(NAMES)
    box = next(box for box in ax.patches if box.get_facecolor()[:3] == to_rgb(colours["footsteps"]))
    x = box.get_path().vertices[:, 0]
    assert_allclose([x.min(), x.max()], np.quantile(SCORES[HARD[:, 1], 1], [0.25, 0.75]))
    ends = np.concatenate([line.get_xdata() for line in ax.lines])
    for quantile in np.quantile(SCORES[HARD[:, 1], 1], [0.05, 0.95]):
        assert np.abs(ends - quantile).min() < 0.05  # whiskers end at the last score within
    assert ax.get_xlim() == (0, 1)


def test_a_class_that_never_sounds_has_one_box() -> None:
    silent = HARD & [True, False, True]
    ax = plots.plot_scores_by_label(SCORES, silent, NAMES)
    assert len(ax.patches) == 5


def test_calibrated_scores_that_are_not_known_are_not_drawn() -> None:
    ax = plots.plot_reliability(CURVES, calibrated=True)
    assert [len(line.get_xdata()) for line in ax.lines[1:]] == [0, 0, 0]
    assert [len(line.get_xdata()) for line in plots.plot_reliability(CURVES).lines[1:]] == [2, 2, 2]


def test_small_axes_fill_row_by_row() -> None:
    axes = plots.small_axes(4, Figure())
    assert len(axes) == 4
    assert len(axes[0].figure.axes) == 4  # the spare places are empty
    names = [*CLASSES[:4]]
    scores, reference = RNG.random((20, 4)), RNG.random((20, 4)) > 0.5
    plots.plot_threshold_curves(scores, reference, names, np.full(4, 0.5), np.full((2, 4), 0.3), axes)
    assert [ax.get_xlabel() for ax in axes] == ["", "", "", "threshold"]
    assert [ax.get_title(loc="left") for ax in axes] == names


def test_bands_are_labelled_where_they_are() -> None:
    ax = plots.plot_features(np.zeros((3, 5)), 0.2, bands_hz=np.array([50.0, 150.0, 250.0, 550.0, 1500.0]))
    assert [text.get_text() for text in ax.get_yticklabels()] == ["0.1", "0.2", "0.5", "1"]
    assert_allclose(ax.get_yticks()[:2], [0.5, 1.5])
    assert ax.images[0].get_extent()[:2] == [0, pytest.approx(0.6)]
    assert ax.images[0].origin == "lower"
    assert plots.plot_features(SCORES, 0.2).get_ylabel() == "band"


def test_a_png_has_the_dots_asked_for() -> None:
    figure = Figure(figsize=(2, 1))
    for dpi in (80, 150):
        header = plots.to_png(figure, dpi)[16:24]
        assert int.from_bytes(header[:4]) == 2 * dpi
        assert int.from_bytes(header[4:]) == dpi
