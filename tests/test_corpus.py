"""Corpora: the real labels and folds, every way in which one can be wrong, and what must not matter."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from shared import shared

from sedsoft.core import FileError, make_rng
from sedsoft.corpus import (
    SPLITS,
    Fold,
    Recording,
    check_corpus,
    count_labels,
    describe,
    find_fold_problems,
    fingerprint,
    make_folds,
    official_folds,
    read_corpus,
    read_folds,
    summarise,
    write_folds,
)
from sedsoft.labels import CLASSES, EVALUATED, is_hard

SR = 1000


def write_quiet(path: Path, duration_s: float = 3.0) -> None:
    """Write silence; what it sounds like is not this module's matter."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(np.ceil(duration_s * SR))), SR)


def write_maestro(root: Path) -> Path:
    """Write six recordings of three seconds in MAESTRO's layout, without folds."""
    for scene in ("city_center", "metro_station"):
        for k in (90, 91, 92):
            write_quiet(root / "development_audio" / scene / f"{scene}_{k}.wav")
            path = annotation(root, f"{scene}_{k}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"0\t1\tcar\t0.{k}\n1\t2\tfootsteps\t0.4\n")
    return root


def annotation(root: Path, name: str) -> Path:
    return root / "development_annotation" / f"soft_labels_{name[:-3]}" / f"{name}.txt"


def write_own(root: Path, table: str, *audio: str) -> Path:
    """Write a folder of audio with one CSV."""
    for file in audio:
        write_quiet(root / file)
    (root / "labels.csv").write_text(table, encoding="utf-8")
    return root


@pytest.fixture
def maestro(tmp_path):
    return write_maestro(tmp_path / "maestro")


GARDEN = "filename,onset,offset,label,value\na.wav,0,1,owl,0.7\nb.wav,0,1,Fox,0.3\nc.wav,0,1,owl,0.6\n"


@pytest.fixture
def garden(tmp_path):
    return write_own(tmp_path / "garden", GARDEN, "audio/a.wav", "audio/b.wav", "audio/c.wav")


# the real labels


def test_the_shipped_folds_are_the_official_ones():
    folder = shared("maestro-real", "development_folds")
    theirs, problems = read_folds(folder, ())
    assert problems == []
    assert official_folds() == theirs
    assert sorted(path.name for path in folder.iterdir()) == [
        f"fold{k}_{s}.csv" for k in theirs for s in sorted(SPLITS)
    ]


def test_the_real_labels_make_a_corpus_with_the_figures_of_the_report(tmp_path):
    table = pd.read_csv(shared("maestro-real", "soft_labels.tsv"), sep="\t")
    durations = pd.read_csv(shared("maestro-real", "durations.tsv"), sep="\t", index_col=0)["duration"]
    for name, rows in table.groupby("filename"):
        write_quiet(tmp_path / "development_audio" / name[:-3] / f"{name}.flac", durations[name])
        rows = rows.drop(columns="filename").melt(["onset", "offset"])
        annotation(tmp_path, name).parent.mkdir(parents=True, exist_ok=True)
        rows[rows["value"] > 0].to_csv(annotation(tmp_path, name), sep="\t", header=False, index=False)
    corpus = read_corpus(tmp_path)
    assert corpus.folds_from == "the official folds, shipped with sedsoft"
    summary = summarise(corpus)
    assert summary.scenes["recordings"].to_dict() == {
        "cafe_restaurant": 10,
        "city_center": 10,
        "grocery_store": 9,
        "metro_station": 9,
        "residential_area": 11,
        "all": 49,
    }
    assert summary.scenes.loc["all", "segments"] == 11_369
    assert round(summary.scenes.loc["all", "minutes"], 1) == 189.9
    assert summary.classes["n_hard"].sum() == 14_176
    assert summary.classes.loc["brakes_squeaking", "n_hard"] == 110
    assert round(summary.classes.loc["footsteps", "soft_sum"], 1) == 2998.5
    assert summary.classes.index[summary.classes["evaluated"]].tolist() == list(EVALUATED)
    lacking = summary.folds["without_positives"]
    assert lacking[lacking != ""].to_dict() == {
        (1, "val"): "wind_blowing",
        (2, "val"): "wind_blowing",
        (3, "test"): "wind_blowing",
        (4, "test"): "brakes_squeaking",
    }


# MAESTRO's layout


def test_a_good_corpus_is_read(maestro):
    corpus = read_corpus(str(maestro))
    assert check_corpus(maestro) == []
    assert [recording.name for recording in corpus.recordings] == [
        f"{scene}_{k}" for scene in ("city_center", "metro_station") for k in (90, 91, 92)
    ]
    audio = maestro / "development_audio" / "metro_station" / "metro_station_90.wav"
    n_bytes = audio.stat().st_size
    assert corpus["metro_station_90"] == Recording("metro_station_90", "metro_station", audio, 3.0, n_bytes)
    assert corpus.folds_from == "made by recording and scene"
    assert corpus.classes == CLASSES
    soft = corpus.soft_labels("metro_station_91")
    assert soft.dtype == np.float32
    np.testing.assert_allclose(soft[:, [1, 3]], [[0.91, 0], [0, 0.4], [0, 0]], rtol=1e-6)
    assert count_labels(corpus)["n_hard"].sum() == 6


@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3", ".WAV"])
def test_audio_may_have_any_of_the_suffixes(maestro, suffix):
    old = maestro / "development_audio" / "city_center" / "city_center_90.wav"
    new = old.with_suffix(suffix)
    soundfile.write(new.with_suffix(suffix.lower()), np.zeros((48_000, 2)), 16_000)
    new.with_suffix(suffix.lower()).rename(new) if suffix != ".WAV" else old.rename(new)
    old.unlink(missing_ok=True)
    assert read_corpus(maestro)["city_center_90"].audio == new
    assert read_corpus(maestro)["city_center_90"].n_segments == 3


def spoil_labels(line: str):
    """A corpus in which one recording's labels have one line more."""

    def spoil(root: Path) -> None:
        with annotation(root, "city_center_91").open("a") as file:
            file.write(line + "\n")

    return spoil


def drop_annotation(root: Path) -> None:
    annotation(root, "city_center_91").unlink()


def drop_audio(root: Path) -> None:
    (root / "development_audio" / "city_center" / "city_center_91.wav").unlink()


def double_in_other_form(root: Path) -> None:
    write_quiet(root / "development_audio" / "city_center" / "city_center_91.flac")


def double_in_other_scene(root: Path) -> None:
    write_quiet(root / "development_audio" / "metro_station" / "city_center_91.wav")


def empty_audio(root: Path) -> None:
    (root / "development_audio" / "city_center" / "city_center_91.wav").write_bytes(b"")


def no_text(root: Path) -> None:
    annotation(root, "city_center_91").write_bytes(b"\xff\xfe0\x00")


def misplace(root: Path) -> None:
    write_quiet(root / "development_audio" / "city_center" / "extra" / "city_center_93.wav")


LABELS = "development_annotation/soft_labels_city_center/city_center_91.txt"
BAD = {
    "negative onset": (spoil_labels("-1\t1\tcar\t0.5"), f"{LABELS}, line 3: onset -1 is negative"),
    "offset before onset": (spoil_labels("2\t1\tcar\t0.5"), f"{LABELS}, line 3: offset 1 is not after onset 2"),
    "NaN": (spoil_labels("2\t3\tcar\tnan"), f'{LABELS}, line 3: value "nan" for "car" is not a number'),
    "over 1": (spoil_labels("2\t3\tcar\t1.00001"), f'{LABELS}, line 3: value 1.00001 for "car" is above 1'),
    "unknown class": (spoil_labels("2\t3\tcars\t1"), f'{LABELS}, line 3: unknown class "cars"; nearest: "car"'),
    "beyond the end": (
        spoil_labels("2\t3.5\tcar\t1"),
        f'{LABELS}: city_center_91 lasts 3.00 s, labels beyond the end: 1, the first "car" until 3.50 s',
    ),
    "no annotation": (drop_annotation, f"{LABELS}: missing annotation"),
    "no audio": (drop_audio, f"{LABELS}: annotation without audio"),
    "twice": (
        double_in_other_form,
        "development_audio/city_center/city_center_91.wav: duplicate recording city_center_91, "
        "also in development_audio/city_center/city_center_91.flac",
    ),
    "in two scenes": (
        double_in_other_scene,
        "development_audio/metro_station/city_center_91.wav: duplicate recording city_center_91, "
        "also in development_audio/city_center/city_center_91.wav",
    ),
    "empty audio": (empty_audio, "development_audio/city_center/city_center_91.wav: "),
    "no text": (no_text, f"{LABELS}: not UTF-8 text: byte 0 is 0xff"),
    "too deep": (
        misplace,
        "development_audio/city_center/extra/city_center_93.wav: must lie in development_audio/<scene>",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_named_by_file_and_reason(maestro, what):
    spoil, expected = BAD[what]
    spoil(maestro)
    problems = check_corpus(maestro)
    assert len(problems) == 1
    assert problems[0].startswith(expected)
    with pytest.raises(FileError) as error:
        read_corpus(maestro)
    assert str(error.value) == f"{maestro}: {problems[0]}"


def test_all_that_is_wrong_is_in_one_list(maestro):
    fold = Fold(("city_center_90",), ("city_center_91",), ("metro_station_90",))
    write_folds(maestro, {1: fold}, recordings_of(maestro))
    for spoil in (drop_annotation, misplace, double_in_other_scene):
        spoil(maestro)
    problems = check_corpus(maestro)
    assert len(problems) == 3 + 5
    with pytest.raises(FileError) as error:
        read_corpus(maestro)
    assert str(error.value) == "\n".join([f"{maestro}: 8 problems", *problems])


def test_a_file_that_is_all_wrong_is_listed_in_short(maestro):
    annotation(maestro, "city_center_91").write_text("0 1 car 0.5\n" * 100)
    problems = check_corpus(maestro)
    assert len(problems) == 6
    assert problems[0].startswith(f"{LABELS}, line 1: 1 columns")
    assert problems[-1] == f"{LABELS}: 95 more lines are wrong"


def test_an_empty_annotation_says_that_nothing_is_heard(maestro):
    annotation(maestro, "city_center_91").write_text("")
    np.testing.assert_array_equal(read_corpus(maestro).soft_labels("city_center_91"), np.zeros((3, 17), np.float32))


def test_labels_may_reach_into_the_broken_last_second(maestro):
    write_quiet(maestro / "development_audio" / "city_center" / "city_center_91.wav", 3.2)
    spoil_labels("3\t4\tcar\t0.8")(maestro)
    corpus = read_corpus(maestro)
    assert corpus["city_center_91"].n_segments == 3
    assert corpus.soft_labels("city_center_91").max() == np.float32(0.91)


def test_a_scene_that_was_left_out_is_no_fault_but_a_lost_recording_is(maestro):
    shutil.rmtree(maestro / "development_audio" / "metro_station")
    assert read_corpus(maestro).scenes == ("city_center",)


def test_a_name_with_an_accent_is_read_whatever_its_form(maestro):
    write_quiet(maestro / "development_audio" / "city_center" / "caf\u00e9_90.wav")
    write_quiet(maestro / "development_audio" / "city_center" / "cafe\u0301_91.wav")
    for name in ("caf\u00e9_90", "cafe\u0301_91"):
        (annotation(maestro, "city_center_91").parent / f"{name}.txt").write_text("0\t1\tcar\t0.5\n")
    assert read_corpus(maestro)["caf\u00e9_91"].scene == "city_center"


def test_hidden_files_are_passed_over_and_links_are_followed(maestro, tmp_path):
    write_quiet(maestro / "development_audio" / "city_center" / "._city_center_91.wav")
    annotation(maestro, "city_center_91").with_name("._city_center_91.txt").write_bytes(b"\x00\xff")
    (maestro / "development_audio" / "metro_station").rename(tmp_path / "elsewhere")
    (maestro / "development_audio" / "metro_station").symlink_to(tmp_path / "elsewhere")
    assert len(read_corpus(maestro).recordings) == 6


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda root: None, "no such folder"),
        (lambda root: root.write_text(""), "no such folder"),
        (lambda root: root.mkdir(), "no development_audio here, so there must be one CSV of filename,onset"),
        (
            lambda root: (root / "development_audio").mkdir(parents=True),
            "development_audio: holds no audio (.wav, .flac",
        ),
    ],
)
def test_a_folder_that_is_no_corpus_is_refused(make, expected, tmp_path):
    root = tmp_path / "root"
    make(root)
    with pytest.raises(FileError) as error:
        read_corpus(root)
    assert str(error.value).startswith(f"{root}: {expected}")


# folds


def recordings_of(root: Path) -> list[Recording]:
    paths = sorted((root / "development_audio").rglob("*_9[012].wav"))
    return [Recording(path.stem, path.parent.name, path, 3.0) for path in paths]


def change_fold(root: Path, file: str, old: str, new: str) -> None:
    path = root / "development_folds" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


@pytest.fixture
def with_folds(maestro):
    folds = {k + 1: Fold((f"city_center_9{k}",), (f"city_center_9{(k + 1) % 3}",), ()) for k in range(3)}
    tests = [("city_center_92", "metro_station_90"), ("city_center_90", "metro_station_91")]
    tests.append(("city_center_91", "metro_station_92"))
    folds = {k: Fold(fold.train, fold.val, test) for (k, fold), test in zip(folds.items(), tests, strict=True)}
    write_folds(maestro, folds, recordings_of(maestro))
    return maestro


def test_own_folds_are_read_as_they_stand(with_folds):
    corpus = read_corpus(with_folds)
    assert corpus.folds_from == "development_folds"
    assert corpus.folds[1] == Fold(("city_center_90",), ("city_center_91",), ("city_center_92", "metro_station_90"))
    assert [recording.name for recording in corpus.split(1, "test")] == ["city_center_92", "metro_station_90"]


FOLD = "development_folds/fold1"
BAD_FOLDS = {
    "train and test": (
        ("fold1_train.csv", "_90", "_92"),
        f"{FOLD}_test.csv: city_center_92 is in train of fold 1 as well",
    ),
    "train and val": (("fold1_val.csv", "_91", "_90"), f"{FOLD}_val.csv: city_center_90 is in train of fold 1 as well"),
    "twice": (
        ("fold1_train.csv", "filename", "filename\ncity_center/city_center_90"),
        f"{FOLD}_train.csv: city_center_90 is in train of fold 1 as well",
    ),
    "unknown": (
        ("fold1_train.csv", "_90", "_9O"),
        f'{FOLD}_train.csv: unknown recording "city_center/city_center_9O"; nearest: "city_center_9',
    ),
    "left out": (
        ("fold1_test.csv", "metro_station/metro_station_90", ""),
        "development_folds: metro_station_90 is in test of no fold",
    ),
    "tested twice": (
        ("fold2_test.csv", "filename", "filename\nmetro_station/metro_station_90"),
        "development_folds/fold2_test.csv: metro_station_90 is in test of fold 1 as well",
    ),
    "empty": (("fold1_train.csv", "city_center/city_center_90", ""), f"{FOLD}_train.csv: names no recording"),
    "no title": (
        ("fold1_train.csv", "filename\n", ""),
        f'{FOLD}_train.csv: the first line is "city_center/city_center_90"',
    ),
}


@pytest.mark.parametrize("what", BAD_FOLDS)
def test_folds_that_are_wrong_are_refused_by_file_and_reason(with_folds, what):
    change, expected = BAD_FOLDS[what]
    change_fold(with_folds, *change)
    problems = check_corpus(with_folds)
    assert len(problems) == 1
    assert problems[0].startswith(expected)
    with pytest.raises(FileError, match="development_folds"):
        read_corpus(with_folds)


def test_a_fold_without_one_of_its_files_and_a_folder_without_folds_are_refused(with_folds):
    (with_folds / "development_folds" / "fold2_val.csv").unlink()
    assert check_corpus(with_folds) == ["development_folds/fold2_val.csv: no such file"]
    for path in (with_folds / "development_folds").iterdir():
        path.unlink()
    assert check_corpus(with_folds) == [
        "development_folds: holds no fold1_train.csv, no fold1_val.csv, no fold1_test.csv"
    ]


def test_own_folds_win_over_the_official_ones_of_the_same_names(tmp_path):
    for name in (name for fold in official_folds().values() for name in fold.test):
        scene, recording = name.split("/")
        write_quiet(tmp_path / "development_audio" / scene / f"{recording}.wav", 1)
        annotation(tmp_path, recording).parent.mkdir(parents=True, exist_ok=True)
        annotation(tmp_path, recording).write_text("")
    corpus = read_corpus(tmp_path)
    assert corpus.folds_from == "the official folds, shipped with sedsoft"
    assert set(corpus.folds[1].test) == {name.split("/")[1] for name in official_folds()[1].test}
    own = make_folds(corpus.recordings, make_rng(1))
    write_folds(tmp_path, own, corpus.recordings)
    again = read_corpus(tmp_path)
    assert (again.folds, again.folds_from) == (own, "development_folds")
    assert fingerprint(again) != fingerprint(corpus)
    shutil.rmtree(tmp_path / "development_folds")
    for scene in ("city_center", "metro_station", "residential_area"):
        shutil.rmtree(tmp_path / "development_audio" / scene)
    part = read_corpus(tmp_path)
    assert part.folds_from == "the official folds, shipped with sedsoft, of whose 49 recordings 19 are here"
    for k, fold in part.folds.items():
        for split in SPLITS:
            assert set(getattr(fold, split)) == set(getattr(corpus.folds[k], split)) & {r.name for r in part.recordings}


@pytest.mark.parametrize("n_recordings", [3, 4, 5, 12, 49])
def test_folds_that_are_made_have_no_problems(n_recordings):
    recordings = [Recording(f"r{k}", f"scene {k % 3}", Path(), 60.0) for k in range(n_recordings)]
    folds = make_folds(recordings, make_rng(n_recordings))
    assert find_fold_problems(folds, [recording.name for recording in recordings]) == []
    assert len(folds) == min(5, n_recordings)
    sizes = [len(fold.test) for fold in folds.values()]
    assert max(sizes) - min(sizes) <= 1
    for scene in range(3):
        counts = [sum(int(name[1:]) % 3 == scene for name in fold.test) for fold in folds.values()]
        assert max(counts) - min(counts) <= 1


# own data


def test_own_data_are_read(garden):
    corpus = read_corpus(garden)
    assert corpus.classes == corpus.evaluated == ("Fox", "owl")
    assert [(r.name, r.scene) for r in corpus.recordings] == [("a", "audio"), ("b", "audio"), ("c", "audio")]
    np.testing.assert_allclose(corpus.soft_labels("b"), [[0.3, 0], [0, 0], [0, 0]], rtol=1e-6)
    assert is_hard(corpus.soft_labels("c")).sum() == 1
    assert corpus.folds_from == "made by recording and scene"


def test_the_folder_of_audio_may_be_the_corpus_itself(tmp_path):
    rows = "audio/a.wav,0,1,owl,0.7\nmore/a.wav,0,1,owl,0.7\nmore\\deep\\b.WAV,0,1,owl,0.7\n"
    files = ("audio/a.wav", "more/a.wav", "more/deep/b.wav")
    corpus = read_corpus(write_own(tmp_path, "filename,onset,offset,label,value\n" + rows, *files))
    assert [(r.name, r.scene) for r in corpus.recordings] == [
        ("audio/a", "audio"),
        ("more/a", "more"),
        ("more/deep/b", "more/deep"),
    ]


def test_a_scene_may_be_given(tmp_path):
    rows = "a.wav,0,1,owl,0.7,wood\na.wav,1,2,owl,0.7,\nb.wav,0,1,owl,0.7,lake\nx/c.wav,,,,,\n"
    files = ("a.wav", "b.wav", "x/c.wav")
    corpus = read_corpus(write_own(tmp_path, "filename,onset,offset,label,value,scene\n" + rows, *files))
    assert {r.name: r.scene for r in corpus.recordings} == {"a": "wood", "b": "lake", "x/c": "x"}
    (tmp_path / "labels.csv").write_text((tmp_path / "labels.csv").read_text() + "a,2,3,owl,0,pond\n")
    assert check_corpus(tmp_path) == ['labels.csv, line 6: scene of a is "pond", was "wood" before']


def test_letters_with_accents_are_the_same_in_every_form(tmp_path):
    rows = "".join(f"{name}.wav,0,1,Käuzchen,0.7\n" for name in ("bäume", "b", "c"))
    files = ("ba\u0308ume.wav", "b.wav", "c.wav")
    corpus = read_corpus(write_own(tmp_path, "filename,onset,offset,label,value\n" + rows, *files))
    assert corpus["b\u00e4ume"].n_segments == 3


def test_a_table_with_a_mark_and_other_line_ends_is_read(garden):
    text = "\ufeff" + GARDEN.replace("\n", "\r\n")
    (garden / "labels.csv").write_bytes(text.encode())
    (garden / "._labels.csv").write_bytes(b"\x00")
    assert check_corpus(garden) == []


BAD_OWN = {
    "negative onset": ("a.wav,-1,1,owl,0.7", "labels.csv, line 5: onset -1 is negative"),
    "offset before onset": ("a.wav,2,1,owl,0.7", "labels.csv, line 5: offset 1 is not after onset 2"),
    "over 1": ("a.wav,0,1,owl,7", 'labels.csv, line 5: value 7 for "owl" is above 1'),
    "no label": ("a.wav,0,1,,0.7", "labels.csv, line 5: the label is empty"),
    "no value": ("a.wav,0,1,owl,", 'labels.csv, line 5: value "" for "owl" is not a number'),
    "too few": ("a.wav,0,1,owl", "labels.csv, line 5: 4 columns, must be 5"),
    "beyond the end": (
        "a.wav,2,4,owl,0.7",
        'labels.csv: a lasts 3.00 s, labels beyond the end: 1, the first "owl" until 4.00 s',
    ),
    "unknown recording": (
        "d.wav,0,1,owl,0.7\nd.wav,1,2,owl,0.7",
        'labels.csv, line 5: unknown recording "d.wav"; nearest: "',
    ),
}


@pytest.mark.parametrize("what", BAD_OWN)
def test_what_is_wrong_with_own_data_is_named_by_file_and_reason(garden, what):
    lines, expected = BAD_OWN[what]
    (garden / "labels.csv").write_text(GARDEN + lines + "\n")
    problems = check_corpus(garden)
    assert len(problems) == 1
    assert problems[0].startswith(expected)
    with pytest.raises(FileError, match=r"labels\.csv"):
        read_corpus(garden)


def test_files_that_own_data_lack_or_have_twice_are_named(garden):
    write_quiet(garden / "audio" / "d.flac")
    write_quiet(garden / "audio" / "a.flac")
    assert check_corpus(garden) == [
        "audio/a.wav: duplicate recording a, also in audio/a.flac",
        "audio/d.flac: missing annotation, no line of labels.csv names it (if nothing is heard: d,,,,)",
    ]
    shutil.rmtree(garden / "audio")
    problems = check_corpus(garden)
    assert problems[0] == "no audio below the folder (.wav, .flac, .ogg, .mp3)"
    assert problems[1].startswith('labels.csv, line 2: unknown recording "a.wav"')


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("", "labels.csv, line 1: columns are , must be filename,onset,offset,label,value"),
        ("file,onset,offset,label,value\n", 'labels.csv, line 1: unknown column "file"; nearest: "filename"'),
        ("filename,onset,offset,label,value\na.wav,,,,\nb.wav,,,,\nc.wav,,,,\n", "labels.csv: names no class"),
        (GARDEN + f"a.wav,0,1,{'owl' * 50_000},0.5\n", "labels.csv, line 5: not CSV: field larger"),
    ],
)
def test_a_table_that_is_none_is_refused(garden, table, expected):
    (garden / "labels.csv").write_text(table)
    assert check_corpus(garden)[0].startswith(expected)


def test_two_tables_are_one_too_many(garden):
    (garden / "old.csv").write_text(GARDEN)
    assert check_corpus(garden)[0].endswith("found: labels.csv, old.csv")


def test_two_recordings_are_too_few(tmp_path):
    rows = "a.wav,0,1,owl,0.7\nb.wav,0,1,owl,0.3\n"
    root = write_own(tmp_path, "filename,onset,offset,label,value\n" + rows, "a.wav", "b.wav")
    assert check_corpus(root) == ["2 recordings: must be 3 or more, one for each split of a fold"]


def test_own_data_may_bring_folds_by_name_alone(garden):
    for k, (train, val, test) in enumerate(("abc", "bca", "cab"), start=1):
        for split, name in (("train", train), ("val", val), ("test", test)):
            path = garden / "development_folds" / f"fold{k}_{split}.csv"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"filename\n{name}.wav\n")
    folds = read_corpus(garden).folds
    assert folds[2] == Fold(train=("b",), val=("c",), test=("a",))
    assert [fold.test for fold in folds.values()] == [("c",), ("a",), ("b",)]


# what must not matter


def test_the_place_of_a_corpus_and_the_order_of_lines_do_not_change_its_description(maestro, tmp_path):
    before = describe(read_corpus(maestro))
    maestro.rename(tmp_path / "moved")
    path = annotation(tmp_path / "moved", "city_center_90")
    path.write_text("".join(reversed(path.read_text().replace("car", "CAR").splitlines(keepends=True))))
    assert describe(read_corpus(tmp_path / "moved")) == before
    path.write_text("0\t1\tcar\t0.2\n")
    assert describe(read_corpus(tmp_path / "moved"))["fingerprint"] != before["fingerprint"]


def test_audio_of_another_size_is_another_corpus(maestro):
    before = fingerprint(read_corpus(maestro))
    path = maestro / "development_audio" / "metro_station" / "metro_station_90.wav"
    wav, sr = soundfile.read(path)
    soundfile.write(path, wav, sr, subtype="PCM_24")
    assert fingerprint(read_corpus(maestro)) != before
