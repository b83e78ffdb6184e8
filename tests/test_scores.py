"""Score tables from elsewhere are read right, or refused by file, line and column."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from sedsoft.core import FileError
from sedsoft.labels import CLASSES, EVALUATED
from sedsoft.scores import (
    Scores,
    frame_scores,
    read_score_folder,
    read_scores,
    scores_from_text,
    scores_to_text,
    segment_scores,
    write_scores,
)

GOOD = "onset\toffset\tcar\tbirds_singing\n0\t1\t0.5\t0.25\n1\t2\t0.75\t0\n"


@settings(max_examples=100, deadline=None)
@given(
    npst.arrays(
        np.float32,
        st.tuples(st.integers(1, 8), st.just(2)),
        elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    st.floats(1e-3, 10),
)
def test_no_bit_is_lost_on_the_way_through_a_file(values: np.ndarray, hop_s: float):
    table = frame_scores("a", ("car", "bus"), values, hop_s)
    back = scores_from_text(scores_to_text(table), "a.tsv")
    assert back.values.dtype == np.float64
    assert (back.values.astype(np.float32) == values).all()
    assert (back.edges_s == table.edges_s).all()


def test_file_reads_back_and_sums_up_the_same(tmp_path: Path):
    values = np.random.default_rng(0).random((57, 17)).astype(np.float32)
    table = frame_scores("metro_station_03", CLASSES, values, 0.2)
    write_scores(tmp_path / "metro_station_03.tsv", table)
    back = read_scores(tmp_path / "metro_station_03.tsv", EVALUATED)
    assert back.classes == EVALUATED
    assert back.name == "metro_station_03"
    np.testing.assert_array_equal(segment_scores(back, 11), segment_scores(table, 11)[:, :11])


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        GOOD + "\n\n",
        GOOD.rstrip(),
        GOOD.replace("birds_singing", '"Birds Singing"').replace("car", " CAR "),
        GOOD.replace("0.25", "2.5e-1").replace("0.75", " 0.75 "),
    ],
    ids=["windows", "byte order mark", "blank end", "no line end", "spelling", "exponent"],
)
def test_other_ways_to_write_the_same_are_read(text: str, tmp_path: Path):
    (tmp_path / "a.tsv").write_text(text, encoding="utf-8", newline="")
    table = read_scores(tmp_path / "a.tsv", ("birds_singing", "car"))
    assert table.classes == ("birds_singing", "car")
    assert table.values.tolist() == [[0.25, 0.5], [0, 0.75]]
    assert table.edges_s.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("", 1, 'the header begins ""'),
        ("onset\toffset\n0\t1\n", 1, 'the header begins "onset", "offset"; must be onset, offset, a column a class'),
        (GOOD.replace("\t", ","), 1, 'the header begins "onset,offset,car,birds_singing"'),
        ("\n".join(GOOD.splitlines()[1:]), 1, 'the header begins "0", "1", "0.5"'),
        (GOOD.splitlines()[0] + "\n", 1, "no frames"),
        (GOOD.replace("0.75", "0,75"), 3, '"0,75" in column "car" is not a finite number'),
        (GOOD.replace("0.75", "inf"), 3, '"inf" in column "car" is not a finite number'),
        (GOOD.replace("0.75", ""), 3, '"" in column "car" is not a finite number'),
        (GOOD.replace("\t0.75", ""), 3, "3 columns, the header has 4"),
        (GOOD.replace("0.75", "0.75\t0.1"), 3, "5 columns, the header has 4"),
        (GOOD.replace("0.75", "0.75\t0.1").replace("0.5", "0.5\t0.1"), 2, "5 columns, the header has 4"),
        (GOOD.replace("1\t2", "\n1\t2"), 3, "an empty line, the header has 4 columns"),
        (GOOD.replace("0\t1", "-1\t1"), 2, "onset -1.0 is negative"),
        (GOOD.replace("1\t2", "1\t1"), 3, "offset 1.0 is not after onset 1.0"),
        (GOOD.replace("1\t2", "1.5\t2"), 3, "onset 1.5, but the frame before ends at 1.0"),
        (GOOD.replace("1\t2", "0.5\t2"), 3, "onset 0.5, but the frame before ends at 1.0"),
        (GOOD.replace("car", "truck"), 1, 'unknown class "truck"'),
        (GOOD.replace("car", "Birds Singing"), 1, 'columns that mean the same class: "Birds Singing", "birds_singing"'),
        (GOOD.replace("car", "footsteps"), 1, 'no column for "car"; 2 columns: footsteps, birds_singing'),
    ],
)
def test_what_is_wrong_is_named_by_line(text: str, line: int, problem: str, tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text(text)
    with pytest.raises(FileError) as caught:
        read_scores(path, ("car", "birds_singing"))
    assert str(caught.value).startswith(f"{path}, line {line}: ")
    assert problem in str(caught.value)


def test_number_that_only_python_reads_is_refused():
    with pytest.raises(FileError, match=r"a\.tsv: no table of plain numbers: .*1_000"):
        scores_from_text(GOOD.replace("0.75", "1_000"), "a.tsv")


def test_text_that_is_none_is_refused(tmp_path: Path):
    (tmp_path / "a.tsv").write_bytes(GOOD.encode("utf-16"))
    with pytest.raises(FileError, match=r"a\.tsv: not UTF-8 text"):
        read_scores(tmp_path / "a.tsv")


def test_known_names_are_those_of_the_corpus():
    own = GOOD.replace("car", "Dog Barking").replace("birds_singing", "doorbell")
    assert scores_from_text(own, "a.tsv", ("doorbell", "dog_barking")).classes == ("doorbell", "dog_barking")
    with pytest.raises(FileError, match='unknown class "doorbell"'):
        scores_from_text(own, "a.tsv", ("dog barking",))
    assert scores_from_text(own, "a.tsv", ("doorbell",), known=("dog barking", "doorbell")).classes == ("doorbell",)
    assert scores_from_text(own, "a.tsv").classes == ("Dog Barking", "doorbell")


def test_folder_is_read_by_name(tmp_path: Path):
    for name in ("a", "b", "deep/er/c.d"):
        write_scores(tmp_path / f"{name}.tsv", frame_scores(name, ("car",), np.zeros((1, 1)), 1.0))
    (tmp_path / "notes.txt").write_text("nothing")
    assert list(read_score_folder(tmp_path)) == ["a", "b", "deep/er/c.d"]
    assert [(name, table.name) for name, table in read_score_folder(tmp_path, names=["b"]).items()] == [("b", "b")]
    with pytest.raises(FileError, match="no scores for 6 of 7 recordings: r0, r1, r2, r3, r4, …; each needs a file"):
        read_score_folder(tmp_path, names=["a", *(f"r{k}" for k in range(6))])
    with pytest.raises(FileError, match="no such folder"):
        read_score_folder(tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileError, match="no TSV files"):
        read_score_folder(tmp_path / "empty")


def test_other_systems_table_that_begins_late_is_silent_before():
    late = Scores("late", ("car",), np.array([1.5, 2.0, 3.0]), np.array([[0.5], [0.25]]))
    assert segment_scores(late, 3)[:, 0].tolist() == [0.0, 0.5, 0.25]
