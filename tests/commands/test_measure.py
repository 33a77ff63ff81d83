"""What a figure was measured on is said, and is what was asked for."""

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from narrows.cli import main
from narrows.commands.measure import evaluate
from narrows.errors import NarrowsError
from narrows.evaluation import measure
from narrows.modalities.images import distances
from narrows.modalities.images.images import Images, open_images
from narrows.modalities.images.modality import MODALITY
from narrows.modalities.images.settings import ImageSettings
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.progress import hidden


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def write(folder: Path, count: int, side: int = 8, mode: str = "L") -> Path:
    """Images that are digits, scaled up and coloured if asked."""
    folder.mkdir(parents=True)
    for index, pixels in enumerate(open_images(ImageSettings()).train.subset(count).pixels):
        image = Image.fromarray(pixels[0]).convert(mode).resize((side, side), Image.Resampling.NEAREST)
        image.save(folder / f"{index:03}.png")
    return folder


def measured(model: Autoencoder, images: Images) -> dict[str, float]:
    return measure(model, images, 64, partial(MODALITY.figures, spec=model.spec)).figures


def test_a_foreign_source_is_measured_whole_and_said_so(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "other", 60)
    before = (run / "report.html").read_bytes()
    assert main(["evaluate", str(run), "--data", str(source)]) == 0
    printed = capsys.readouterr().out
    assert f"60 of 60 images, all of {source}" in printed
    (file,) = run.glob("evaluation-other-*.json")
    assert str(file) in printed
    written = json.loads(file.read_text())
    assert (written["examples"], written["unit"], written["of"]) == (60, "images", 60)
    assert (written["split"], written["source"]) == ("all", str(source))
    whole = open_images(ImageSettings(source=str(source), validation=0, test=0)).all
    assert written["figures"] == pytest.approx(measured(load(run), whole))
    assert (run / "report.html").read_bytes() == before
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize("names", [["test"], ["val", "test"], ["train", "test"]])
def test_splits_of_a_foreign_source_are_its_own(run: Path, tmp_path: Path, names: list[str]) -> None:
    for name in names:
        write(tmp_path / "other" / name, 20)
    done = evaluate(str(run), str(tmp_path / "other"), limit=7)
    assert (done.examples, done.total, done.split) == (7, 20 * len(names), "all")
    if len(names) > 1:
        assert evaluate(str(run), str(tmp_path / "other"), "test").total == 20
        with pytest.raises(NarrowsError, match=r"has no (validation|train) split of its own"):
            evaluate(str(run), str(tmp_path / "other"), "validation" if names[0] == "train" else "train")


def test_a_limit_is_a_random_subset_and_carried_into_the_files(run: Path) -> None:
    done = evaluate(str(run), limit=20)
    assert done.measured_on.startswith("20 of 93 images, the test split of the run's own data")
    written = json.loads((run / "evaluation.json").read_text())
    assert (written["examples"], written["of"], written["data_changed"]) == (20, 93, None)


def test_settings_of_the_data_may_be_given_and_no_others(run: Path, tmp_path: Path) -> None:
    source = write(tmp_path / "other", 10)
    (source / "bad.png").write_bytes(b"junk")
    assert main(["evaluate", str(run), "--data", str(source), "--data.strict=true"]) == 1
    assert main(["evaluate", str(run), "--data", str(source), "--model.bottleneck.codebook_size=9"]) == 1
    assert main(["evaluate", str(run), "--data", str(source)]) == 0


@pytest.mark.parametrize(("side", "mode"), [(8, "RGB"), (32, "L"), (32, "RGB")])
def test_other_sizes_and_colours_are_read_as_the_models_by_every_command(
    run: Path, tmp_path: Path, side: int, mode: str, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write(tmp_path / "other", 12, side, mode)
    fitted = open_images(ImageSettings(source=str(other), size=8, channels=1, validation=0, test=0)).all
    expected = measured(load(run), fitted)
    assert evaluate(str(run), str(other)).figures == pytest.approx(expected)
    capsys.readouterr()
    files = [str(other / f"{index:03}.png") for index in range(3)]
    assert main(["evaluate", str(run), "--data", str(other)]) == 0
    assert "images are scaled and cropped to the model's 8x8 pixels of grey" in capsys.readouterr().err
    for command in (["encode", str(run), *files, "-o", str(tmp_path / "codes.npz")], ["reconstruct", str(run), *files]):
        assert main(command) == 0
        told = capsys.readouterr().err
        assert ("3 of 3 images scaled and cropped to the model's 8x8" in told) == (side == 32)
        assert ("3 of 3 images converted to the model's grey" in told) == (mode == "RGB")
    with np.load(tmp_path / "codes.npz") as content:
        assert content["codes"].shape == (3, 4, 4)


def test_data_that_changed_since_the_training_are_told_by_every_command(
    tiny: Path, tiny_prior: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, run = write(tmp_path / "set", 120), tmp_path / "run"
    train = ["train", str(tiny), "--data", str(source), "--out", str(run), "--training.steps=4"]
    assert main(train) == 0
    assert main(["evaluate", str(run)]) == 0
    assert "differ from the training data" not in capsys.readouterr().err
    (source / "000.png").unlink()
    written = json.loads((run / "data.json").read_text())
    assert written["source"] == str(source)
    assert sum(part["examples"] for part in written["splits"].values()) == 120
    resumed = ["train", str(tiny), "--out", str(run), "--resume", "--training.steps=5"]
    for command in (["evaluate", str(run)], resumed, ["prior", str(run), "--recipe", str(tiny_prior)]):
        assert main(command) == 0
        assert "the data differ from the training data: train: " in capsys.readouterr().err
    assert json.loads((run / "data.json").read_text()) == written
    assert "examples before" in json.loads((run / "evaluation.json").read_text())["data_changed"]
    (run / "data.json").unlink()
    assert main(["evaluate", str(run)]) == 0
    assert "this run was trained by an older version" in capsys.readouterr().err


def test_a_stream_is_measured_on_what_is_held_out_of_it(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "SLEEP_TIME_ON_THREADS_SHUTDOWN", 0, raising=False)
    pixels = write(tmp_path / "set", 80)
    cells = [{"bytes": file.read_bytes(), "path": None} for file in sorted(pixels.iterdir())]
    features = datasets.Features({"image": datasets.Image()})
    (tmp_path / "hub").mkdir()
    datasets.Dataset.from_dict({"image": cells}, features=features).to_parquet(tmp_path / "hub" / "train.parquet")
    stream = ["--data.streaming=true", "--data.size=8", "--data.channels=1", "--data.test=0.1", "--data.validation=0.2"]
    command = ["train", str(tiny), "--data", f"hf:{tmp_path / 'hub'}", "--out", str(tmp_path / "run"), *stream]
    assert main([*command, "--training.steps=3"]) == 0
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    for split in ("train", "all"):
        assert main(["evaluate", str(tmp_path / "run"), "--split", split]) == 1
        assert "data.streaming=false" in capsys.readouterr().err


def test_classes_are_told_by_their_names_not_their_numbers(run: Path, tmp_path: Path) -> None:
    data = open_images(ImageSettings())
    for pixels, label in zip(data.test.pixels, data.test.labels, strict=True):
        if label in (3, 7):
            (tmp_path / "some" / str(label)).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[0]).save(tmp_path / "some" / str(label) / f"{hash(pixels.tobytes())}.png")
    found = evaluate(str(run), str(tmp_path / "some")).figures
    which = [index for index, label in enumerate(data.test.labels) if label in (3, 7)]
    expected = measure(load(run), Images(data.test.pixels[which], data.test.labels[which])).figures
    assert found["prior_bits_per_dim"] == pytest.approx(expected["prior_bits_per_dim"])
    (tmp_path / "some" / "7").rename(tmp_path / "some" / "unheard of")
    assert "prior_bits_per_dim" not in evaluate(str(run), str(tmp_path / "some")).figures


def test_no_voices_of_images(run: Path) -> None:
    with pytest.raises(NarrowsError, match="--split unheard: these data have train, validation, test, all"):
        evaluate(str(run), split="unheard")


def test_distances_are_those_of_reconstructions_and_stay_with_the_figures(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "FEATURE_STEPS", 30)
    done = evaluate(str(run), distances=True)
    written = json.loads((run / "evaluation.json").read_text())
    assert done.figures["frechet_reconstructions"] == written["figures"]["frechet_reconstructions"] > 0
    assert done.distances == written["distances"]
    assert "test accuracy" in written["distances"]
    assert "test accuracy" in (run / "report.html").read_text()
    # Those of the modality itself, for the same reconstructions.
    model, test = load(run), open_images(ImageSettings()).test
    data = open_images(ImageSettings())
    made = model.reconstruct(torch.stack([test[index] for index in range(len(test))]))
    expected, _ = MODALITY.distances(data, test, {1.0: {"reconstructions": list(made)}}, hidden)
    assert done.figures["frechet_reconstructions"] == pytest.approx(expected[1.0]["frechet_reconstructions"], rel=1e-4)
    with pytest.raises(NarrowsError, match="leave --data out"):
        evaluate(str(run), "digits", distances=True)
