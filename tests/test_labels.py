"""Labels: the real ones counted, files that are wrong named, patterns of any kind there and back."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shared import shared

from sedsoft.core import FileError
from sedsoft.labels import (
    CLASSES,
    EVALUATED,
    class_name,
    is_hard,
    labels_from_text,
    labels_to_text,
    read_labels,
    to_decisions,
    to_events,
    to_segments,
    write_labels,
)

# Figure 1 of the report: class -> sum of soft labels, hard positives (seconds of 49 recordings)
FIGURE_1 = {
    "people talking": (5008.2, 5703),
    "car": (2885.2, 3513),
    "birds_singing": (1318.1, 1472),
    "footsteps": (2998.5, 1444),
    "large_vehicle": (960.2, 689),
    "metro approaching": (806.2, 452),
    "metro leaving": (737.5, 299),
    "children voices": (792.6, 183),
    "cutlery and dishes": (715.8, 170),
    "wind_blowing": (625.4, 141),
    "brakes_squeaking": (477.2, 110),
}


def test_the_real_labels_are_counted_as_in_the_report(tmp_path):
    table = pd.read_csv(shared("maestro-real", "soft_labels.tsv"), sep="\t")
    durations = pd.read_csv(shared("maestro-real", "durations.tsv"), sep="\t", index_col=0)["duration"]
    rows = table.melt(["filename", "onset", "offset"], var_name="label")
    segments = []
    for name, labels in rows[rows["value"] > 0].groupby("filename"):
        text = "".join(f"{a}\t{b}\t{label}\t{value!r}\n" for _, a, b, label, value in labels.itertuples(index=False))
        (tmp_path / f"{name}.txt").write_text(text)
        segments.append(to_segments(read_labels(tmp_path / f"{name}.txt"), EVALUATED, int(durations[name])))
    soft = np.concatenate(segments)
    assert len(segments) == 49
    assert soft.shape == (11_369, 11)
    assert is_hard(soft).sum() == 14_176
    assert table[list(EVALUATED)].to_numpy().max() > 1
    assert soft.max() == 1
    counts = {
        name: (round(soft[:, k].sum(dtype=float), 1), is_hard(soft)[:, k].sum()) for k, name in enumerate(EVALUATED)
    }
    assert counts == FIGURE_1


def test_the_real_hard_labels_are_those_over_one_half():
    table = pd.read_csv(shared("maestro-real", "soft_labels.tsv"), sep="\t").set_index(["filename", "onset"])
    hard = pd.read_csv(shared("maestro-real", "hard_labels.tsv"), sep="\t")
    for name, events in hard.groupby("filename"):
        soft = table.loc[name.removesuffix(".wav")]
        decisions = to_decisions(events.rename(columns={"event_label": "label"}), EVALUATED, len(soft))
        np.testing.assert_array_equal(decisions, is_hard(soft[list(EVALUATED)]), err_msg=name)


BAD = {
    "-1\t1\tcar\t0.5": "onset -1 is negative; a recording begins at 0",
    "5\t4\tcar\t0.5": "offset 4 is not after onset 5",
    "5\t5\tcar\t0.5": "offset 5 is not after onset 5",
    "5\t6\tcar\tnan": 'value "nan" for "car" is not a number; soft labels lie in [0, 1]',
    "5\t6\tcar\t": 'value "" for "car" is not a number; soft labels lie in [0, 1]',
    "5\t6\tcar\t0,5": 'value "0,5" for "car" is not a number; soft labels lie in [0, 1]',
    "5\t6\tcar\tinf": 'value inf for "car" is above 1; soft labels lie in [0, 1]',
    "5\t6\tcar\t1.0000011": 'value 1.0000011 for "car" is above 1; soft labels lie in [0, 1]',
    "5\t6\tcar\t-0.0001": 'value -0.0001 for "car" is below 0; soft labels lie in [0, 1]',
    "five\t6\tcar\t0.5": 'onset "five" is not a number of seconds',
    "5\tnan\tcar\t0.5": 'offset "nan" is not a number of seconds',
    "5\t6\tcars\t0.5": 'unknown class "cars"; nearest: "car" (17 known, see sedsoft.labels.CLASSES)',
    "5\t6\t{car}\t0.5": 'unknown class "{car}"; nearest: "car" (17 known, see sedsoft.labels.CLASSES)',
    "5\t6\tcar": "3 columns, must be 4 with tabs between: onset, offset, label, value",
    "5,6,car,0.5": "1 columns, must be 4 with tabs between: onset, offset, label, value",
    "onset\toffset\tlabel\tvalue": 'onset "onset" is not a number of seconds',
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_line_is_refused_by_file_line_and_reason(line, tmp_path):
    path = tmp_path / "metro_station_03.txt"
    path.write_text(f"0\t1\tcar\t0.25\n\n{line}\n7\t8\tcar\t9\n")
    with pytest.raises(FileError) as error:
        read_labels(path)
    assert str(error.value) == f"{path}, line 3: {BAD[line]}"


def test_what_an_editor_leaves_behind_does_no_harm(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbf0\t1\tCar\t0.5\r\n\r\n 1\t2\tdoor_opens_closes\t1e-2 \r\n \r\n")
    assert labels_to_text(read_labels(path)) == "0.0\t1.0\tcar\t0.5\n1.0\t2.0\tdoor opens/closes\t0.01\n"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf"])
def test_an_empty_file_says_that_nothing_is_heard(content, tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    labels = read_labels(path)
    assert list(labels) == ["onset", "offset", "label", "value"]
    np.testing.assert_array_equal(to_segments(labels, CLASSES, 3), np.zeros((3, 17), np.float32))
    write_labels(path, labels)
    assert path.read_bytes() == b""


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"0\t1\tcaf\xe9\t0.5\n")
    with pytest.raises(FileError, match=r"a\.txt: not UTF-8 text: byte 7 is 0xe9"):
        read_labels(path)


def test_a_label_that_would_break_the_file_is_not_written(tmp_path):
    labels = pd.DataFrame({"onset": [0.0], "offset": [1.0], "label": ["a\tb"], "value": [0.5]})
    with pytest.raises(ValueError, match="5 columns"):
        write_labels(tmp_path / "a.txt", labels)
    assert list(tmp_path.iterdir()) == []


def test_other_classes_are_listed_where_one_is_unknown():
    with pytest.raises(ValueError, match=r'unknown class "robin"; nearest: "Robins" \(2 known: Robins, owl\)'):
        class_name("robin", ("Robins", "owl"))


@given(st.lists(st.tuples(*[st.floats(0, 50)] * 2, st.sampled_from(CLASSES), st.floats(0, 1)), max_size=20))
@settings(max_examples=50, deadline=None)
def test_labels_survive_the_file_digit_for_digit(found):
    found = [(a, b, label, value) for a, b, label, value in found if a < b]
    labels = pd.DataFrame(found, columns=["onset", "offset", "label", "value"])
    again = labels_from_text(labels_to_text(labels), "a.txt")
    assert again.to_numpy().tolist() == labels.to_numpy().tolist()
    soft = to_segments(again, CLASSES, 50)
    assert 0 <= soft.min()
    assert soft.max() <= 1


@given(st.integers(1, 30), st.integers(1, 4), st.sampled_from([0.1, 0.2, 0.3, 1.0, 2.5]), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_decisions_survive_as_events(n_segments, n_classes, segment_s, seed):
    rng = np.random.default_rng(seed)
    decisions = rng.random((n_segments, n_classes)) > rng.random()
    classes = [f"class {k}" for k in range(n_classes)]
    events = to_events(decisions, classes, segment_s)
    np.testing.assert_array_equal(to_decisions(events, classes, n_segments, segment_s), decisions)
    for _, same in events.groupby("label"):
        assert (same["onset"].to_numpy()[1:] > same["offset"].to_numpy()[:-1]).all()
