"""From folders of BVH files and tables to models, codes, motions and reports, as a user would go."""

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from narrows.cli import main
from narrows.data import Spec
from narrows.errors import NarrowsError
from narrows.modalities.motion import continuation, distances, reach
from narrows.modalities.motion.bvh import Bvh, read_bvh, write_bvh
from narrows.modalities.motion.goals import Goals, MotionBatch, PositionGoal
from narrows.modalities.motion.modality import MODALITY
from narrows.modalities.motion.motion_search import compare_with_random, decoded, decoded_costs
from narrows.modalities.motion.proposals import proposals_of
from narrows.modalities.motion.search import SearchSettings, search
from narrows.modalities.motion.skeleton import Skeleton
from narrows.modalities.motion.standardised import Standardised
from narrows.modalities.motion.tables import Table, read_table, write_table
from narrows.pretrained import load
from narrows.sampling import Sampling
from tests.modalities.motion.helpers import CHANNELS, WALKER, walker, write_arms, write_walks

RECIPE = """
modality: motion
model:
  class_path: Autoencoder
  init_args:
    encoder: {class_path: SequenceEncoder, init_args: {width: 8, strides: [2, 2], blocks: 1}}
    bottleneck: {class_path: Gaussian, init_args: {channels: 2}}
    decoder: {class_path: SequenceDecoder, init_args: {width: 8, blocks: 1}}
    likelihood: {class_path: GaussianDensityShared}
estimator: {class_path: Pathwise}
data: {window: 16, stride: 8, hold_out: time, validation: 0.2, test: 0.2, gap: 0, clip: 16}
training: {steps: 6, batch_size: 4, log_every: 2, validate_every: 3, checkpoint_every: 3}
variants:
  vae: {}
  vq:
    model:
      init_args:
        bottleneck: {class_path: VectorQuantizer, init_args: {dim: 4, codebook_size: 8}}
  written:
    model:
      init_args:
        bottleneck: {class_path: Autoregressive, init_args: {dim: 4, codebook_size: 8, width: 8, layers: 1, heads: 2}}
    estimator: {class_path: DAPS, init_args: {samples: 4}}
"""
PRIOR = """
prior: {class_path: TransformerPrior, init_args: {width: 8, layers: 1, heads: 2}}
training: {steps: 4, batch_size: 4, log_every: 2, validate_every: 2, checkpoint_every: 2}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Walks, arms, recipes, a VAE of walks and a VQ-VAE of arms."""
    place = tmp_path_factory.mktemp("motion")
    write_walks(place / "walks")
    write_arms(place / "robot")
    (place / "tiny.yaml").write_text(RECIPE)
    (place / "prior.yaml").write_text(PRIOR)
    recipe, data = str(place / "tiny.yaml"), ["--data", str(place / "walks")]
    assert main(["train", recipe, *data, "--out", str(place / "run")]) == 0
    data = ["--data", str(place / "robot" / "arms"), f"--data.urdf={place / 'robot' / 'arm.urdf'}"]
    assert main(["train", recipe, "--variant", "vq", *data, "--out", str(place / "arm")]) == 0
    return place


def test_a_run_and_its_report(place: Path) -> None:
    model = load(place / "run")
    assert model.classes == ["run", "walk"]
    assert model.spec.bounds is None
    assert (model.hop, model.grid, model.shape) == (4, (4,), (34, 16))
    assert not model.conditional
    page = (place / "run" / "report.html").read_text()
    titles = re.findall(r"<h2[^>]*>([^<]*)", page)
    assert titles[:3] == ["Reconstructions", "Samples", "Bits per dimension"]
    assert "6 sequences of 2 classes by 3 subjects for training" in page
    assert "of a skeleton of 5 joints" in page
    assert "the logarithm of a density, which may be negative" in page
    assert {"joint_angle_error", "joint_position_error", "root_drift", "jerk"} <= set(re.findall(r"\w+", page))
    assert "<script src" not in page


def test_a_run_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    data, out = ["--data", str(place / "walks")], ["--out", str(tmp_path / "run")]
    assert main(["train", str(place / "tiny.yaml"), *data, *out, "--training.steps=3"]) == 0
    assert main(["train", str(place / "tiny.yaml"), *out, "--resume", "--training.steps=6"]) == 0
    weights = [path / "model" / "model.safetensors" for path in (tmp_path / "run", place / "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_files_of_any_length_to_latents_and_back(place: Path, tmp_path: Path) -> None:
    run, long = str(place / "run"), tmp_path / "long.bvh"
    write_bvh(long, walker(131))
    assert main(["encode", run, str(long), "--out", str(tmp_path / "codes.npz")]) == 0
    assert main(["decode", run, str(tmp_path / "codes.npz"), "--out", str(tmp_path / "decoded")]) == 0
    assert main(["reconstruct", run, str(long), "--out", str(tmp_path / "made")]) == 0
    decoded, made = ((tmp_path / folder / "long.bvh").read_bytes() for folder in ("decoded", "made"))
    assert decoded == made
    found = read_bvh(made)
    assert found.channels == CHANNELS
    assert found.values.shape == (131, 18)
    np.testing.assert_allclose(found.skeleton.offsets, WALKER.offsets)
    assert "long" in (tmp_path / "made" / "index.html").read_text()


def lengths(folder: Path) -> list[int]:
    """The numbers of frames of the files in a folder."""
    return [len(read_bvh(file.read_bytes()).values) for file in sorted(folder.glob("*.bvh"))]


def test_sample_interpolate_and_reconstruct_the_test_split(place: Path, tmp_path: Path) -> None:
    run, walks = str(place / "run"), place / "walks"
    assert main(["sample", run, "-n", "3", "--film", "gif", "--out", str(tmp_path / "samples")]) == 0
    assert len(list((tmp_path / "samples").glob("*.gif"))) == 3
    assert lengths(tmp_path / "samples") == [16] * 3
    assert main(["sample", run, "-n", "2", "--out", str(tmp_path / "samples")]) == 0
    assert [path.name for path in sorted((tmp_path / "samples").iterdir())] == ["000.bvh", "001.bvh", "index.html"]
    ends = [str(walks / name) for name in ("walk1_subject1.bvh", "run2_subject2.bvh")]
    assert main(["interpolate", run, *ends, "--steps", "3", "--out", str(tmp_path / "path")]) == 0
    assert lengths(tmp_path / "path") == [96] * 3
    assert main(["reconstruct", run, "--out", str(tmp_path / "made")]) == 0
    assert len(list((tmp_path / "made").glob("*.bvh"))) == 6


def test_evaluate_states_errors_in_degrees_and_centimetres(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(place / "run"), "--samples", "2"]) == 0
    figures = json.loads((place / "run" / "evaluation.json").read_text())["figures"]
    assert {"joint_angle_error", "joint_position_error", "root_drift", "jerk", "original_jerk"} <= figures.keys()
    assert 0 < figures["joint_angle_error"] < 180
    assert "degrees" in capsys.readouterr().out
    write_bvh(tmp_path / "new" / "a.bvh", walker(40))
    assert main(["evaluate", str(place / "run"), "--data", str(tmp_path / "new"), "--samples", "1"]) == 0
    assert "3 of 3 motions" in capsys.readouterr().out


def test_distances_are_stated_with_the_accuracy_of_the_classifier(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "FEATURE_STEPS", 20)
    out, long = str(tmp_path / "run"), ["--data", str(write_walks(tmp_path / "walks", 640))]
    assert main(["train", str(place / "tiny.yaml"), *long, "--out", out]) == 0
    capsys.readouterr()
    assert main(["evaluate", out, "--samples", "1", "--distances"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "in the features of a small classifier of the 2 classes of these data (accuracy: " in said
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["figures"]["frechet_reconstructions"] > 0
    assert found["figures"]["frechet_samples"] > 0
    assert " ".join(found["distances"].split()) in said
    assert "of a small classifier of the 2 classes" in (tmp_path / "run" / "report.html").read_text()
    assert main(["evaluate", out, "--distances", *long]) == 1
    assert "leave --data out" in capsys.readouterr().err
    assert main(["evaluate", str(place / "run"), "--samples", "1", "--distances"]) == 1
    assert "it needs 33 windows of 16 frames" in " ".join(capsys.readouterr().err.split())


def test_tables_to_codes_and_back_as_tables(place: Path, tmp_path: Path) -> None:
    run, table = str(place / "arm"), place / "robot" / "arms" / "slow" / "1.csv"
    model = load(run)
    assert model.spec.rate == pytest.approx(20)
    assert main(["encode", run, str(table), "--out", str(tmp_path / "codes.npz")]) == 0
    assert main(["decode", run, str(tmp_path / "codes.npz"), "--out", str(tmp_path)]) == 0
    found = read_table(tmp_path / "1.csv")
    assert found.names == ("time", "shoulder", "elbow")
    np.testing.assert_allclose(found.values[:, 0], np.arange(80) / 20)
    (x,) = MODALITY.read([table], model.spec)
    MODALITY.write(tmp_path / "expected.csv", model.reconstruct(x.unsqueeze(0))[0], model.spec)
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_a_prior_knows_the_classes(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(place / "arm")
    assert main(["prior", run, "--recipe", str(place / "prior.yaml")]) == 0
    prior = load(run).prior
    assert prior is not None
    assert prior.classes == 2
    assert main(["sample", run, "-n", "2", "--out", str(tmp_path / "both")]) == 0
    page = (tmp_path / "both" / "index.html").read_text()
    assert "fast" in page
    assert "slow" in page
    assert main(["sample", run, "-n", "2", "--class", "slow", "--out", str(tmp_path / "slow")]) == 0
    assert "fast" not in (tmp_path / "slow" / "index.html").read_text()
    capsys.readouterr()
    assert main(["sample", run, "--class", "medium"]) == 1
    assert "medium" in capsys.readouterr().err


def test_a_decoder_that_reads_the_class(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The motions of a class that is only held out are decoded and measured as of unknown class."""
    run, walks, held_out = str(tmp_path / "run"), write_walks(tmp_path / "walks"), "hold_out: sequence, split_seed: 25"
    write_bvh(walks / "jump1_subject1.bvh", walker(80))
    recipe = RECIPE.replace(
        "SequenceDecoder, init_args: {width: 8, blocks: 1}", "StridedDecoder, init_args: {width: 8}"
    )
    (tmp_path / "tiny.yaml").write_text(recipe.replace("hold_out: time", held_out))
    assert main(["train", str(tmp_path / "tiny.yaml"), "--variant", "vq", "--data", str(walks), "--out", run]) == 0
    assert main(["prior", run, "--recipe", str(place / "prior.yaml")]) == 0
    assert " of 2 classes by " in (tmp_path / "run" / "report.html").read_text()
    assert load(run).classes == ["run", "walk"]
    assert main(["evaluate", run, "--samples", "1"]) == 0
    assert "classes that the model is not trained on, whose motions count as of unknown class: 1 jump" in " ".join(
        capsys.readouterr().err.split()
    )
    figures = json.loads((tmp_path / "run" / "evaluation.json").read_text())["figures"]
    assert figures["prior_bits_per_code"] == pytest.approx(3)  # eight codes of equal probability
    assert main(["reconstruct", run, "--out", str(tmp_path / "made")]) == 0
    assert main(["sample", run, "-n", "4", "--out", str(tmp_path / "samples")]) == 0
    page = (tmp_path / "samples" / "index.html").read_text()
    assert "walk" in page
    assert "jump" not in page
    (tmp_path / "goal.yaml").write_text("position: {to: [0, 10]}\n")
    goal = ["--goal", str(tmp_path / "goal.yaml"), "--decodings", "40", "--rounds", "2"]
    assert main(["search", run, *goal]) == 0
    assert {one["class"] for one in json.loads((tmp_path / "run" / "found" / "search.json").read_text())["best"]} <= {
        "run",
        "walk",
    }
    assert main(["search", run, *goal, "--class", "jump"]) == 1
    assert "no class 'jump'" in capsys.readouterr().err


def test_series_without_kinematics_are_drawn_as_curves(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(0).normal(size=(120, 2)).cumsum(0)
    write_table(tmp_path / "strokes" / "a.csv", Table(("x", "y"), values))
    out = tmp_path / "run"
    data = ["--data", str(tmp_path / "strokes"), "--data.rate=60"]
    assert main(["train", str(place / "tiny.yaml"), *data, "--out", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert "Originals, each next to its reconstruction. By seconds." in page
    assert main(["sample", str(out), "-n", "2"]) == 0
    assert len(list((out / "samples").glob("*.csv"))) == 2
    capsys.readouterr()
    for command in (["sample", str(out), "-n", "2"], ["reconstruct", str(out), str(tmp_path / "strokes" / "a.csv")]):
        assert main([*command, "--film", "gif", "--out", str(tmp_path / "no")]) == 1
        assert "--film: no figure is known for these data" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_other_motions_are_all_measured_whatever_a_run_was_tested_on(place: Path, tmp_path: Path) -> None:
    run, walks = tmp_path / "run", str(place / "walks")
    assert (
        main(["train", str(place / "tiny.yaml"), "--data", walks, "--data.test_files=subject2", "--out", str(run)]) == 0
    )
    assert main(["evaluate", str(run)]) == 0
    evaluated = json.loads((run / "evaluation.json").read_text())
    assert (evaluated["examples"], evaluated["options"]) == (2 * 96 // 16, {})
    other = write_walks(tmp_path / "other")
    for file in other.glob("*_subject2.bvh"):
        file.unlink()
    assert main(["evaluate", str(run), "--data", str(other)]) == 0
    (evaluated,) = (json.loads(file.read_text()) for file in run.glob("evaluation-*.json"))
    assert (evaluated["split"], evaluated["examples"]) == ("all", 2 * (6 + 7))


def test_nothing_is_written_if_a_film_cannot_be(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    walks = [str(place / "walks" / f"walk{number}_subject{number}.bvh") for number in (1, 2)]
    (tmp_path / "goal.yaml").write_text("position: {to: [0, 10]}\n")
    for command, *options in (
        ("sample", "-n", "2"),
        ("reconstruct", walks[0]),
        ("interpolate", *walks),
        ("search", "--goal", str(tmp_path / "goal.yaml"), "--decodings", "40", "--rounds", "2"),
    ):
        assert main([command, str(place / "run"), *options, "--film", "mp4", "--out", str(tmp_path / "no")]) == 1
        assert "narrows[motion]" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_codes_written_one_after_another_and_a_comparison(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    budget = ["--budget", "3", "--seeds", "1", "--learning-rates", "1e-3", "--limit", "4", "--samples", "2"]
    data = ["--recipe", str(place / "tiny.yaml"), "--data", str(place / "walks"), *budget]
    assert main(["compare", "vq", "written", *data, "--bits", "12", "--out", str(out)]) == 0
    rows = (out / "summary.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["vq", "written"]
    assert "joint_position_error" in rows[0]
    assert (out / "reconstructions" / "index.html").exists()


def test_files_unlike_the_models_are_named(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    joints = ("hips", "leftLeg", "leftFoot", "rightLeg", "tail")
    other = Skeleton(joints, WALKER.parents, WALKER.offsets)
    write_bvh(tmp_path / "other.bvh", Bvh(other, CHANNELS, 1 / 30, walker(20).values))
    write_bvh(tmp_path / "fast.bvh", walker(20, 60))
    whole = (place / "walks" / "walk1_subject1.bvh").read_text()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "fewer.bvh").write_text("".join(lines[:-5]))
    (tmp_path / "cut.bvh").write_text(whole[:-40])
    (tmp_path / "nan.bvh").write_text("".join([*lines[:-1], "nan" + lines[-1][lines[-1].index(" ") :]]))
    (tmp_path / "twice.bvh").write_text(whole.replace("rightLeg", "leftLeg"))
    (tmp_path / "comma.bvh").write_text("".join([*lines[:-1], lines[-1].replace(".", ",")]))
    (tmp_path / "windows.bvh").write_bytes(whole.replace(" ", "\t").replace("\n", "\r\n").encode())
    (tmp_path / "text.csv").write_text("time,shoulder,elbow\n0,1,2\n0.05,left,2\n")
    (tmp_path / "ragged.csv").write_text("time,shoulder,elbow\n0,1,2\n0.05,1\n")
    (tmp_path / "few.csv").write_text("time,shoulder\n0,1\n")
    for run, file, message in (
        ("run", "other.bvh", "other.bvh: it has a skeleton without rightFoot, with unknown tail, unlike the model's"),
        ("run", "fast.bvh", "60 frames per second, but the model's motions 30"),
        ("run", "fewer.bvh", "it says 88 frames but has 83"),
        ("run", "cut.bvh", f"line {len(lines)}: 14 values instead of 18; it is truncated"),
        ("run", "nan.bvh", f"line {len(lines)}: value 1 is nan"),
        ("run", "twice.bvh", "line 20: the joint 'leftLeg' is listed twice"),
        ("run", "comma.bvh", f"line {len(lines)}: '0,000000' has a comma as decimal sign; replace it by a point"),
        ("arm", "text.csv", "text.csv: line 3, column 'shoulder': 'left' is not a number"),
        ("run", "missing.bvh", "missing.bvh: it cannot be read"),
        ("arm", "ragged.csv", "ragged.csv: line 3: 2 values instead of 3"),
        ("arm", "few.csv", "it has no column 'elbow'"),
        ("arm", "other.bvh", "other.bvh is not a table"),
    ):
        assert main(["reconstruct", str(place / run), str(tmp_path / file), "--out", str(tmp_path / "no")]) == 1
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "no").exists()
    for file in (tmp_path / "windows.bvh", place / "walks" / "walk1_subject1.bvh"):
        assert main(["reconstruct", str(place / "run"), str(file), "--out", str(tmp_path / file.stem)]) == 0
    made = [(tmp_path / name / f"{name}.bvh").read_bytes() for name in ("windows", "walk1_subject1")]
    assert made[0] == made[1]


def test_search_for_a_goal_with_a_vae(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out, walk = str(place / "run"), tmp_path / "found", place / "walks" / "walk1_subject1.bvh"
    (tmp_path / "goal.yaml").write_text(
        f"position: {{to: [0, 10], within: 1000}}\nheading: {{to: 5, within: 180}}\n"
        f"pose: {{file: '{walk}', frame: 7, within: 1000}}\n"
    )
    short = ["--decodings", "80", "--rounds", "4", "-n", "2"]
    goal = ["--goal", str(tmp_path / "goal.yaml")]
    assert main(["search", run, *goal, *short, "--film", "gif", "--out", str(out)]) == 0
    assert [path.name for path in sorted(out.glob("*.gif"))] == ["000.gif", "001.gif"]
    assert "the best meets the goal" in capsys.readouterr().out
    figures = json.loads((out / "search.json").read_text())
    assert figures["decodings"] == 80
    assert figures["missed"] == []
    assert lengths(out) == [16, 16]
    first, second = figures["best"]
    assert first["cost"] == pytest.approx(sum(first["misses"].values()))
    assert first["cost"] + 0.2 * first["bits"] <= second["cost"] + 0.2 * second["bits"]
    # The file has the place that the figures say it has.
    root = read_bvh((out / "000.bvh").read_bytes()).values[-1, [0, 2]]
    assert np.linalg.norm(root - [0, 10]) == pytest.approx(first["misses"]["position"], abs=0.01)
    page = (out / "index.html").read_text()
    assert "From above, cm: x across, z along" in page
    assert "the pose to reach" in page
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / "007.bvh").write_text("of the user, since there is no page")
    assert main(["search", run, *goal, *short, "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "007.bvh").exists()
    assert main(["search", run, *goal, *short[:-1], "1", "--out", str(tmp_path / "again")]) == 0
    assert [path.name for path in sorted((tmp_path / "again").iterdir())] == ["000.bvh", "index.html", "search.json"]
    assert main(["search", run, *goal, *short, "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "search.json").read_bytes() == (out / "search.json").read_bytes()
    (tmp_path / "path.csv").write_text("time,x,z\n0,0,0\n0.5,0,5000\n")
    assert main(["search", run, "--goal", str(tmp_path / "path.csv"), *short, "--out", str(tmp_path / "far")]) == 0
    assert "no motion found meets the goal: the best misses path by" in capsys.readouterr().out
    assert "The best motion misses path by" in (tmp_path / "far" / "index.html").read_text()
    assert main(["search", run, *goal, *short, "--top-p", "0.9"]) == 1
    assert "--top-p applies to a learned prior" in capsys.readouterr().err


def test_search_is_better_than_as_many_random_draws(place: Path) -> None:
    model = load(place / "run")
    scale = Standardised.of(model.spec.details)
    (x,) = MODALITY.read([place / "walks" / "walk1_subject1.bvh"], model.spec)
    walk = MotionBatch(scale.to_features(x[:, :16])[None], scale.format)
    places = [walk.track[0][0, -1] * share for share in (0.5, 1, 1.5)]
    goals = [Goals([PositionGoal(place=place, at=15, unit="cm", within=1)]) for place in places]
    found = compare_with_random(model, goals, SearchSettings(400, rounds=8, support=0))
    assert [one.decodings for one in found] == [400] * 3
    assert all(one.search.cost < one.random.cost for one in found)
    alone = search(
        proposals_of(model, Sampling()), decoded_costs(model, goals[1]), SearchSettings(400, rounds=1, seed=1)
    )
    assert found[1].random.cost <= alone.best[0].cost
    best = decoded(model, found[2].search.candidate)[0]
    ended = MotionBatch(scale.to_features(best)[None], scale.format).track[0][0, -1]
    assert np.linalg.norm(ended - places[2]) == pytest.approx(found[2].search.cost, rel=1e-3)


def test_search_for_a_goal_with_codes(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, table = tmp_path / "run", place / "robot" / "arms" / "slow" / "1.csv"
    shutil.copytree(place / "arm", run, ignore=shutil.ignore_patterns("prior"))
    (tmp_path / "goal.yaml").write_text(f"pose: {{file: '{table}', frame: -1}}\n")
    asked = ["search", str(run), "--goal", str(tmp_path / "goal.yaml"), "--decodings", "80", "--rounds", "4"]
    assert main(asked) == 1
    assert "fit one with `narrows prior" in capsys.readouterr().err
    assert main(["prior", str(run), "--recipe", str(place / "prior.yaml")]) == 0
    assert main([*asked, "--class", "slow", "--top-p", "0.9"]) == 0
    figures = json.loads((run / "found" / "search.json").read_text())
    assert {one["class"] for one in figures["best"]} == {"slow"}
    assert 0 < figures["best"][0]["bits"] <= 12 + 5  # four codes of 8 values, from a prior that is nearly uniform
    assert len(list((run / "found").glob("*.csv"))) == 6
    assert main([*asked, "--class", "medium"]) == 1
    assert "no class 'medium'" in capsys.readouterr().err


def test_models_of_other_data_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SimpleNamespace(spec=Spec((1, 16), "sound"))
    for module in (reach, continuation):
        monkeypatch.setattr(module, "load", lambda folder: model)
    with pytest.raises(NarrowsError, match="runs/a is a model of sound: `narrows search` searches for motions"):
        reach.reach("runs/a", tmp_path / "goal.yaml")
    with pytest.raises(NarrowsError, match="runs/a is a model of sound: `narrows continue` continues motions"):
        continuation.continue_motion("runs/a", tmp_path / "a.bvh", 8)


def test_the_model_alone_reads_and_writes_files(place: Path, tmp_path: Path) -> None:
    """Its config.json has the skeleton, the scale and the rate."""
    model = load(place / "run")
    file = place / "walks" / "walk1_subject1.bvh"
    (x,) = MODALITY.read([file], model.spec)
    assert x.dtype == torch.float32
    MODALITY.write(tmp_path / "a.bvh", x, model.spec)
    original, found = read_bvh(file.read_bytes()), read_bvh((tmp_path / "a.bvh").read_bytes())
    np.testing.assert_allclose(found.values[:, [1, *range(3, 18)]], original.values[:, [1, *range(3, 18)]], atol=0.01)
