"""Soundscapes: the same files whatever the order of work, folds that do not leak, clips refused by name."""

import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
from shared import shared

from sedsoft.core import FileError, make_rng, read_json
from sedsoft.corpus import SPLITS, check_corpus, read_corpus
from sedsoft.labels import CLASSES, EVALUATED, SCENES, is_hard
from sedsoft.sounds import RECIPES, synthesise
from sedsoft.soundscapes import (
    HOMES,
    N_FOLDS,
    PRIORS,
    Opinions,
    SoundscapeSpec,
    deal_clips,
    draw_events,
    from_clips,
    listen,
    make_soundscape,
    notice,
    priors_of,
    read_clips,
    to_soft_labels,
    write_soundscapes,
)

SHORT = SoundscapeSpec(duration_s=10.0)


def files_of(root: Path) -> dict[str, bytes]:
    """All files below a folder, by name."""
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def write_clip(path: Path, f_hz: float = 440.0, duration_s: float = 0.5) -> None:
    """Write a tone, so that a clip can be known by its pitch."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * f_hz * np.arange(int(duration_s * 16_000)) / 16_000), 16_000)


@pytest.fixture(scope="module")
def corpus_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of ten-second recordings, written by one process."""
    root = tmp_path_factory.mktemp("soundscapes") / "corpus"
    write_soundscapes(root, seed=3, spec=SHORT, n_jobs=1)
    return root


# --- the corpus -----------------------------------------------------------------------------------------------------


def test_real_reader_finds_nothing_wrong(corpus_root: Path):
    assert check_corpus(corpus_root) == []
    corpus = read_corpus(corpus_root)
    assert corpus.evaluated == EVALUATED
    assert corpus.scenes == tuple(sorted(SCENES))
    assert "development_folds" in corpus.folds_from
    assert all(recording.duration_s == 10.0 for recording in corpus.recordings)


def test_fold_validates_on_the_test_recordings_of_the_next(corpus_root: Path):
    folds = read_corpus(corpus_root).folds
    assert sorted(folds) == [1, 2, 3, 4, 5]
    for k, fold in folds.items():
        assert set(fold.val) == set(folds[k % 5 + 1].test)
        assert len({*fold.train, *fold.val, *fold.test}) == 25
        assert sorted(name.rsplit("_", 1)[0] for name in fold.test) == sorted(SCENES)
    assert len({name for fold in folds.values() for name in fold.test}) == 25


def test_scene_has_labels_of_its_own_classes_alone(corpus_root: Path):
    corpus = read_corpus(corpus_root)
    for recording in corpus.recordings:
        soft = corpus.soft_labels(recording.name)
        assert soft.min() >= 0
        assert soft.max() <= 1
        silent = [name not in priors_of(recording.scene) for name in CLASSES]
        assert not soft[:, silent].any()


def test_what_is_missing_is_written_again_by_two_processes_as_by_one(corpus_root: Path, tmp_path: Path):
    shutil.copytree(corpus_root, tmp_path / "again")
    for name in ("city_center_02", "metro_station_01", "grocery_store_04"):
        (tmp_path / f"again/development_audio/{name[:-3]}/{name}.flac").unlink()
        (tmp_path / f"again/development_annotation/soft_labels_{name[:-3]}/{name}.txt").unlink()
    shutil.rmtree(tmp_path / "again" / "development_folds")
    write_soundscapes(tmp_path / "again", seed=3, spec=SHORT, n_jobs=2)
    assert files_of(tmp_path / "again") == files_of(corpus_root)


def test_drafts_are_drawn_until_every_class_at_home_is_heard():
    spec = SoundscapeSpec(duration_s=20.0)
    heard = [name for name, home in HOMES.items() if home == "residential_area"]
    for k in range(6):
        _, labels = make_soundscape("residential_area", spec, 0, f"residential_area_{k:02d}")
        assert is_hard(labels[:, [CLASSES.index(name) for name in heard]]).any(axis=0).all()


def test_other_seed_or_name_is_another_recording():
    wav, labels = make_soundscape("city_center", SHORT, 0, "city_center_00")
    for seed, name in ((1, "city_center_00"), (0, "city_center_01")):
        other, other_labels = make_soundscape("city_center", SHORT, seed, name)
        assert (wav != other).mean() > 0.99
        assert (labels != other_labels).any()


def test_more_recordings_leave_the_first_as_they_are(corpus_root: Path, tmp_path: Path):
    few = {name for name in files_of(corpus_root) if name.endswith((".flac", ".txt"))}
    spec = SoundscapeSpec(n_per_fold=2, duration_s=10.0)
    for name in ("metro_station_01", "residential_area_04"):
        wav, _ = make_soundscape(name.rsplit("_", 1)[0], spec, 3, name)
        file = next(file for file in few if file.endswith(f"{name}.flac"))
        np.testing.assert_allclose(soundfile.read(corpus_root / file)[0], wav, atol=2**-15)


@pytest.mark.parametrize("spoil", ["other_file", "is_a_file", "other_spec"])
def test_folder_that_holds_something_else_is_refused(corpus_root: Path, tmp_path: Path, spoil: str):
    root, spec = tmp_path / "there", SHORT
    if spoil == "other_file":
        (root / "thesis").mkdir(parents=True)
    elif spoil == "is_a_file":
        root.write_text("thesis")
    else:
        root, spec = corpus_root, SoundscapeSpec(duration_s=11.0)
    before = files_of(corpus_root)
    with pytest.raises(FileError, match="is there and is not this corpus"):
        write_soundscapes(root, seed=3, spec=spec)
    assert files_of(corpus_root) == before


def test_note_says_how_it_was_made(corpus_root: Path):
    note = read_json(corpus_root / "made_with.json")
    assert note["seed"] == 3
    assert note["spec"]["duration_s"] == 10.0
    assert note["clips"] == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_split_of_the_default_corpus_lacks_a_class(tmp_path: Path, seed: int):
    write_soundscapes(tmp_path / "corpus", seed=seed)
    corpus = read_corpus(tmp_path / "corpus")
    for fold in corpus.folds:
        for split in SPLITS:
            soft = np.concatenate([corpus.soft_labels(recording.name) for recording in corpus.split(fold, split)])
            assert is_hard(soft).any(axis=0).all(), (fold, split)


def test_every_class_is_common_somewhere():
    assert set(HOMES) == set(CLASSES) == set(RECIPES) == set(PRIORS)
    assert set(HOMES.values()) == set(SCENES)
    for scene in SCENES:
        events = draw_events(scene, SHORT, make_rng(0, scene))
        assert {name for name, home in HOMES.items() if home == scene} <= {event.label for event in events}
        assert {event.label for event in events} <= set(priors_of(scene))


def test_share_sets_how_often_a_class_sounds():
    spec = SoundscapeSpec(flatness=0.0)
    counts = dict.fromkeys(CLASSES, 0)
    for k in range(200):
        for event in draw_events("residential_area", spec, make_rng(k, "often")):
            counts[event.label] += 1
    assert counts["birds_singing"] > 2 * counts["wind_blowing"] > 2 * counts["children voices"]


# --- annotators -----------------------------------------------------------------------------------------------------


def test_recording_shorter_than_a_window_is_one_window():
    assert notice(np.full((4, 2), 20.0)).shape == (1, 2)
    once = Opinions(np.zeros(2), np.array([0, 1]), np.array([[True], [False]]))
    np.testing.assert_allclose(to_soft_labels(once, np.array([0.75, 0.25]), 4), 0.75)


def test_window_of_another_length():
    heard_db = np.full((12, 1), -60.0)
    heard_db[5] = 30.0
    certain = (notice(heard_db, window_s=3) > 0.5).astype(float)
    assert np.flatnonzero(certain[:, 0]).tolist() == [3, 4, 5]
    opinions = listen(certain, np.ones(2), 2, make_rng(0))
    soft = to_soft_labels(opinions, np.ones(2), 12, window_s=3)[:, 0]
    np.testing.assert_allclose(soft[3:8], np.array([1, 2, 3, 2, 1]) / 3, rtol=1e-6)


def test_nobody_hears_a_window_twice():
    opinions = listen(np.full((30, 3), 0.5), np.full(7, 0.5), 5, make_rng(0))
    who = opinions.annotator.reshape(30, 5)
    assert all(len(set(row)) == 5 for row in who)
    assert set(who.ravel()) == set(range(7))
    assert opinions.heard.shape == (150, 3)


def test_annotator_without_competence_weighs_nothing():
    two = Opinions(np.zeros(2), np.array([0, 1]), np.array([[True], [False]]))
    np.testing.assert_allclose(to_soft_labels(two, np.array([0.0, 0.4]), 10), 0.0)
    with pytest.raises(ValueError, match="second 0 lies in no window"):
        to_soft_labels(two, np.zeros(2), 10)


def test_order_of_answers_does_not_matter():
    rng = make_rng(0, "order")
    opinions = listen(rng.random((11, 4)), np.ones(6), 3, rng)
    order = rng.permutation(len(opinions.annotator))
    shuffled = Opinions(opinions.onset_s[order], opinions.annotator[order], opinions.heard[order])
    competence = rng.random(6)
    np.testing.assert_allclose(
        to_soft_labels(opinions, competence, 20), to_soft_labels(shuffled, competence, 20), rtol=1e-6
    )


# --- clips ----------------------------------------------------------------------------------------------------------


def test_clip_sounds_in_one_fifth_of_the_corpus(tmp_path: Path):
    for k in range(11):
        write_clip(tmp_path / "bank" / "birds singing" / f"{k:02d}.wav")
    hands = deal_clips(read_clips(tmp_path / "bank"), make_rng(0, "deal"))
    dealt = [path for hand in hands for path in hand["birds_singing"]]
    assert len(dealt) == len(set(dealt)) == 11
    assert sorted(len(hand["birds_singing"]) for hand in hands) == [2, 2, 2, 2, 3]


def test_corpus_of_clips_holds_them_and_says_what_it_lacks(tmp_path: Path):
    for k in range(N_FOLDS):
        write_clip(tmp_path / "bank" / "brakes_squeaking" / f"{k}.wav", 3000.0 + 400 * k, 2.0)
    with pytest.warns(UserWarning, match="has no clips of: birds_singing, car.*; these are synthesised"):
        write_soundscapes(tmp_path / "corpus", spec=SHORT, clips=tmp_path / "bank", n_jobs=1)
    assert check_corpus(tmp_path / "corpus") == []
    assert len(read_json(tmp_path / "corpus" / "made_with.json")["clips"]) == 5
    heard = set()
    for k in range(N_FOLDS):
        wav, _ = soundfile.read(tmp_path / f"corpus/development_audio/city_center/city_center_{k:02d}.flac")
        power = np.abs(np.fft.rfft(wav)) ** 2
        levels = [power[int(10 * f_hz) - 5 : int(10 * f_hz) + 6].max() for f_hz in 3000.0 + 400 * np.arange(5)]
        assert np.sort(levels)[-1] > 10 * np.sort(levels)[-2]  # one of the five, in each
        heard.add(int(np.argmax(levels)))
    assert len(heard) == 5


def test_source_of_clips_fills_the_time(tmp_path: Path):
    write_clip(tmp_path / "short.wav", duration_s=0.3)
    write_clip(tmp_path / "long.wav", duration_s=9.0)
    for name in ("short", "long"):
        wav = from_clips({"car": [tmp_path / f"{name}.wav"]}, "car", 4.0, make_rng(0, name))
        assert wav.shape == (64_000,)
        assert np.isfinite(wav).all()
        assert np.mean(wav**2) > 0.3
    np.testing.assert_array_equal(
        from_clips({}, "car", 4.0, make_rng(0, "none")), synthesise("car", 4.0, 16_000, make_rng(0, "none"))
    )


def test_silent_clip_is_no_end(tmp_path: Path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 16_000)
    wav = from_clips({"car": [tmp_path / "silent.wav"]}, "car", 2.0, make_rng(0))
    assert not wav.any()


def test_list_of_clips_is_read(tmp_path: Path):
    for name in ("audio/a.wav", "b.wav", "audio/street.wav"):
        write_clip(tmp_path / name)
    (tmp_path / "labels.csv").write_text(
        "file,label,group\na.wav,Cutlery_and_Dishes,ann\nb.wav,door_opens_closes,\nstreet.wav,city_center,bob\n"
    )
    clips = read_clips(tmp_path)
    assert [(clip.path.name, clip.label, clip.group) for clip in clips] == [
        ("a.wav", "cutlery and dishes", "ann"),
        ("b.wav", "door opens/closes", "b.wav"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,class\na.wav,car\n", "labels.csv, line 1: has no column label"),
        ("", "labels.csv, line 1: has no column file and no column label"),
        ("file,label\na.wav,motor car\n", 'labels.csv, line 2: unknown class "motor car"'),
        ("file,label\na.wav,car\ngone.wav,car\n", 'labels.csv, line 3: names "gone.wav"'),
        ("file,label\na.wav,other\n", "holds no clips of the 17 classes"),
        ("file,label\na.wav\n", 'labels.csv, line 2: unknown class ""'),
    ],
)
def test_list_of_clips_is_refused_by_name(tmp_path: Path, text: str, reason: str):
    write_clip(tmp_path / "audio" / "a.wav")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(FileError) as caught:
        read_clips(tmp_path)
    assert reason in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_folder_without_clips_is_refused(tmp_path: Path):
    with pytest.raises(FileError, match="is no folder"):
        read_clips(tmp_path / "nowhere")
    with pytest.raises(FileError, match="holds no clips"):
        read_clips(tmp_path)
    (tmp_path / "car").mkdir()
    (tmp_path / "car" / "notes.txt").write_text("none yet")
    (tmp_path / ".git").mkdir()
    with pytest.raises(FileError, match="holds no clips"):
        read_clips(tmp_path)


def test_clip_that_is_no_audio_is_refused_by_name(tmp_path: Path):
    (tmp_path / "bank" / "brakes_squeaking").mkdir(parents=True)
    (tmp_path / "bank" / "brakes_squeaking" / "notes.wav").write_text("no sound at all")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(FileError, match=r"notes\.wav"):
            write_soundscapes(tmp_path / "corpus", spec=SHORT, clips=tmp_path / "bank", n_jobs=1)


def test_sound_bank_is_read_whole():
    clips = read_clips(shared("soundbank"))
    assert {clip.label for clip in clips} == set(CLASSES)
    hands = deal_clips(clips, make_rng(0, "deal"))
    for name in CLASSES:
        groups = {clip.group for clip in clips if clip.label == name}
        held = [{clip.group for clip in clips if clip.path in hand[name]} for hand in hands]
        assert set.union(*held) == groups
        if len(groups) >= N_FOLDS:
            assert sum(map(len, held)) == len(groups), name
