"""The table's rows, their work on MAESTRO Real's recordings, and what is measured of a run."""

import time
from dataclasses import replace
from pathlib import Path

import maestro
import numpy as np
import pandas as pd
import pytest
from toy import toy_config, write_toy

import sedsoft.ablation as ablation
from sedsoft.ablation import (
    ablate,
    find_rows,
    find_unmeasured,
    row_config,
    row_differences,
    row_folder,
    run_figures,
    run_task,
    table_runs,
    waiting_tasks,
    write_table,
)
from sedsoft.core import FileError, make_rng, read_json
from sedsoft.corpus import describe
from sedsoft.evaluation import Judged, ReferenceRecording, compare, compare_seeds, judge
from sedsoft.runs import find_config, start_run
from sedsoft.scores import frame_scores
from sedsoft.training import cut_split


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep features away from the user's cache."""
    monkeypatch.setenv("SEDSOFT_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize(("name", "mean"), [("crnn_1s", 39), ("crnn_5s", 39), ("crnn", 45), ("target_loss", 39)])
def test_steps_of_an_epoch_on_the_real_folds(name: str, mean: int):
    corpus, training, rng = maestro.read(), find_config(name).training, make_rng(0, "offsets")
    steps = []
    for names in corpus.train.values():
        lengths = [len(corpus.soft[each]) for each in names]
        steps += [np.ceil(len(cut_split(lengths, training, rng)) / training.batch_size) for _ in range(100)]
    assert round(np.mean(steps)) == mean


def test_a_row_without_its_source_is_refused_before_anything_is_begun(tmp_path: Path):
    write_toy(tmp_path / "toy")
    for names in (["softmax"], ["middle_scored", "crnn"]):
        with pytest.raises(ValueError, match=f"row {names[0]} scores the models of crnn_balanced anew"):
            ablate(tmp_path / "toy", tmp_path / "table", find_rows(names), seeds=(0,), n_jobs=1, epochs=1)
    assert not (tmp_path / "table").exists()


def test_minutes_are_those_of_the_fold_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    corpus = write_toy(tmp_path / "toy")
    (row,) = find_rows(["crnn"])
    run = start_run(tmp_path / "run", replace(toy_config("training.epochs=2"), name=row.config), describe(corpus))
    train, _ = waiting_tasks({(row.config, 0): run}, [1])
    clock_s = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: clock_s[0])
    real_gather, real_run_fold = ablation.gather, ablation.run_fold

    def slow_gather(*given):
        clock_s[0] += 600
        return real_gather(*given)

    def slow_run_fold(*given):
        clock_s[0] += 60
        real_run_fold(*given)

    monkeypatch.setattr(ablation, "gather", slow_gather)
    monkeypatch.setattr(ablation, "run_fold", slow_run_fold)
    run_task(train[0], str(corpus.root))
    assert read_json(run.fold(1) / "cost.json") == {"minutes": 1.0}
    assert run_figures(row.config, 0, run, corpus)[0]["minutes"] == 1.0
    (run.fold(2)).mkdir()  # begun, and stopped
    (again,), _ = waiting_tasks({(row.config, 0): run}, [2])
    run_task(again, str(corpus.root))
    assert np.isnan(run_figures(row.config, 0, run, corpus)[1]["minutes"])


def test_too_few_recordings_for_an_interval_still_make_a_table(tmp_path: Path):
    corpus = write_toy(tmp_path / "toy")  # six recordings in five folds
    rows = find_rows(["crnn_1s_mean", "crnn_1s"])
    raw = ablate(corpus.root, tmp_path / "table", rows, seeds=(0, 1), n_jobs=1, epochs=1)
    compared = row_differences(tmp_path / "table", corpus, raw)
    assert compared.loc["crnn_1s", ["low", "high"]].isna().all()
    table = write_table(tmp_path / "table", corpus.root, raw, rows).set_index("configuration")
    assert table.loc["crnn_1s", "difference"] == f"{compared.loc['crnn_1s', 'difference']:+.1f}"
    line = pd.read_csv(tmp_path / "table" / "differences.csv").iloc[0]
    assert (line.n_seeds, np.isnan(line.low)) == (2, True)


# --- several seeds --------------------------------------------------------------------------------------------------


def world(noise: float, seed: int, n_each: int = 3) -> Judged:
    """Recordings of two folds, the same for every seed, scored with noise."""
    labels, rng = np.random.default_rng(0), np.random.default_rng(seed)
    references, tables = [], {}
    for k in range(2 * n_each):
        soft = labels.random((30, 2)).astype(np.float32)
        references.append(ReferenceRecording(f"r{k}", "street", k % 2 + 1, 30.0, soft))
        tables[f"r{k}"] = frame_scores(f"r{k}", ("a", "b"), soft + rng.normal(0, noise, soft.shape), 1.0)
    return judge(tables, references, ("a", "b"), {1: np.array([0.5, 0.5]), 2: np.array([0.4, 0.6])})


def test_one_seed_is_the_special_case_of_several():
    near, far = world(0.2, 1), world(0.6, 2)
    assert compare_seeds([near], [far], make_rng(0), 100) == compare(near, far, make_rng(0), 100)
    twice = compare_seeds([near, near], [far, far, far], make_rng(0), 100)
    for name, part in compare(near, far, make_rng(0), 100).items():
        assert part["difference"] == pytest.approx(twice[name]["difference"])
        assert part["ci"] == pytest.approx(twice[name]["ci"])


def test_seeds_count_alike_and_their_order_does_not_matter():
    near, far = [world(0.2, seed) for seed in (1, 2, 3)], [world(0.6, seed) for seed in (4, 5)]
    gain = compare_seeds(near, far, make_rng(0), 100)
    again = compare_seeds(near[::-1], far[::-1], make_rng(0), 100)
    for name in ("f1_mo", "f1_validated"):
        singles = [[compare(a, b, make_rng(0), 2)[name]["difference"] for b in far] for a in near]
        assert gain[name]["difference"] == pytest.approx(np.mean(singles))
        assert gain[name]["ci"] == pytest.approx(again[name]["ci"])
        assert gain[name]["ci"][0] < gain[name]["difference"] < gain[name]["ci"][1]


def test_one_recording_a_fold_is_no_certainty():
    near, far = world(0.2, 1, n_each=1), world(0.6, 2, n_each=1)
    for part in compare_seeds([near, near], [far], make_rng(0), 100).values():
        assert part["ci"] is None
        assert part["difference"] != 0


def test_every_seed_must_be_of_the_same_recordings_and_labels():
    near, other = world(0.2, 1), world(0.2, 1, n_each=2)
    for ours, theirs in (([near, other], [near]), ([near], [near, other])):
        with pytest.raises(ValueError, match="2 recordings are not tested by the same fold in both"):
            compare_seeds(ours, theirs, make_rng(0), 10)
    blind = replace(near, thresholds=None)
    assert compare_seeds([near, blind], [near], make_rng(0), 10)["f1_validated"] is None


def test_a_table_is_made_in_pieces(tmp_path: Path):
    corpus = write_toy(tmp_path / "toy")
    first, second = find_rows(["crnn_1s_mean"]), find_rows(["crnn_1s"])
    ablate(corpus.root, tmp_path / "table", first, seeds=(0, 1), n_jobs=1, epochs=1)
    raw = ablate(corpus.root, tmp_path / "table", second, seeds=(0,), n_jobs=1, epochs=1)
    whole = raw[raw.fold == "all"]
    assert list(zip(whole.row, whole.seed, strict=True)) == [("crnn_1s_mean", 0), ("crnn_1s_mean", 1), ("crnn_1s", 0)]
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table" / "raw.csv", dtype={"fold": str}), raw)
    table = write_table(tmp_path / "table", corpus.root, raw, second)
    assert table.configuration.tolist() == ["crnn_1s_mean", "crnn_1s"]
    assert table.seeds.tolist() == ["2", "1"]


def test_a_row_is_scored_anew_after_its_source_is_trained(tmp_path: Path):
    corpus = write_toy(tmp_path / "toy")
    raw = ablate(corpus.root, tmp_path / "table", find_rows(["crnn_balanced", "softmax"]), (0,), n_jobs=1, epochs=1)
    assert raw[raw.fold == "all"].row.tolist() == ["crnn_balanced", "softmax"]
    folds = [tmp_path / "table" / f"{name}_seed0" / "fold1" for name in ("crnn_balanced", "softmax")]
    weights = [(fold / "model.safetensors").read_bytes() for fold in folds]
    assert weights[0] == weights[1]
    assert raw.minutes[raw.row == "softmax"].isna().all()
    assert raw.minutes[raw.row == "crnn_balanced"].notna().all()


@pytest.mark.filterwarnings("ignore:.*have been cancelled")
def test_side_by_side_and_broken_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two processes; stopped after a fold, or before the evaluation, the same call makes up for what is missing."""
    corpus, rows = write_toy(tmp_path / "toy"), find_rows(["crnn_1s_mean"])
    folder, asked = tmp_path / "table" / "crnn_1s_mean_seed0", (corpus.root, tmp_path / "table", rows, (0,), 2, 1)

    def broken(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ablation, "_write_raw", broken)
        with pytest.raises(KeyboardInterrupt):
            ablate(*asked)
    with monkeypatch.context() as patch:
        patch.setattr(ablation, "_evaluate_finished", lambda *_: None)
        raw = ablate(*asked)
    assert raw.fold.tolist() == ["1", "2", "3", "4", "5", "all"]
    assert not (folder / "metrics.json").exists()
    (tmp_path / "table" / "raw.csv").unlink()
    pd.testing.assert_frame_equal(ablate(*asked), raw)
    assert (folder / "metrics.json").is_file()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "table" / "raw.csv", dtype={"fold": str}), raw)


def test_a_run_made_again_beside_the_table_is_not_of_it(tmp_path: Path):
    corpus = write_toy(tmp_path / "toy")
    start_run(tmp_path / "table" / "crnn_seed0-again", find_config("crnn"), describe(corpus))
    assert table_runs(tmp_path / "table") == {}


def test_one_table_has_one_budget(tmp_path: Path):
    corpus = write_toy(tmp_path / "toy")
    for name in ("crnn", "baseline"):
        (row,) = find_rows([name])
        start_run(row_folder(tmp_path / "table", row, 0), row_config(row, 0, 2), describe(corpus))
    with pytest.raises(FileError, match="crnn_seed0: is trained for 2 epochs, 1 are asked for now"):
        ablate(corpus.root, tmp_path / "table", find_rows(["crnn_5s"]), (0,), n_jobs=1, epochs=1)
    assert not (tmp_path / "table" / "crnn_5s_seed0").exists()


def test_a_row_without_pretrained_weights_is_not_measured(monkeypatch: pytest.MonkeyPatch):
    def nowhere(name: str, *_):
        raise FileError(name, "no such folder")

    monkeypatch.setattr("sedsoft.encoders._find", nowhere)
    assert list(find_unmeasured(find_rows(["crnn", "attention_wav2vec2"]))) == ["attention_wav2vec2"]
