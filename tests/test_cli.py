"""The commands as a user meets them, on a model that trains in a moment."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import narrows
from narrows.cli import main
from narrows.modalities.images.images import open_images
from narrows.modalities.images.settings import ImageSettings


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = []
    for index, pixels in enumerate(open_images(ImageSettings()).test.pixels[:3]):
        paths.append(tmp_path / f"digit{index}.png")
        Image.fromarray(pixels[0]).save(paths[-1])
    return paths


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_a_run_leaves_what_it_promises(trained: Path) -> None:
    names = {entry.name for entry in trained.iterdir()}
    assert names == {
        "recipe.yaml",
        "data.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoints",
        "model",
        "report.html",
        "prior",
    }
    rows = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["split"] == "train"] == list(range(1, 13))
    assert {row["step"] for row in rows if row["split"] == "validation"} == {6, 12}
    assert "http" not in (trained / "report.html").read_text().replace("http-equiv", "")


def test_encoding_files_and_decoding_the_codes_gives_their_reconstructions(
    trained: Path, pictures: list[Path], tmp_path: Path
) -> None:
    codes, out = tmp_path / "codes.npz", tmp_path / "decoded"
    assert main(["encode", str(trained), *map(str, pictures), "-o", str(codes)]) == 0
    assert main(["decode", str(trained), str(codes), "-o", str(out)]) == 0
    model = narrows.load(trained)
    pixels = np.stack([np.asarray(Image.open(path)) for path in pictures])[:, None]
    expected = model.reconstruct(torch.from_numpy(pixels).float() / 255)
    decoded = np.stack([np.asarray(Image.open(out / path.name)) for path in pictures])[:, None]
    np.testing.assert_array_equal(decoded, (expected * 255).round().byte().numpy())
    with np.load(codes) as content:
        assert content["codes"].shape == (3, 4, 4)
        assert content["codes"].dtype == np.uint8


def test_codes_of_another_model_or_damaged_codes_are_refused(
    trained: Path, pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codes = tmp_path / "codes.npz"
    main(["encode", str(trained), str(pictures[0]), "-o", str(codes)])
    other = shutil.copytree(trained, tmp_path / "other")
    weights = narrows.load(trained)
    weights.encoder.layers[0].bias.data += 1
    narrows.pretrained.save_autoencoder(other / "model", weights, (other / "recipe.yaml").read_text())
    assert main(["decode", str(other), str(codes), "-o", str(tmp_path / "no")]) == 1
    assert "has the codes of another model" in capsys.readouterr().err
    codes.write_bytes(codes.read_bytes()[:-40])
    assert main(["decode", str(trained), str(codes), "-o", str(tmp_path / "no")]) == 1
    assert f"{codes} is not a file of codes" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_sampling_repeats_with_its_seed_and_obeys_the_class(trained: Path, tmp_path: Path) -> None:
    def drawn(name: str, *arguments: str) -> np.ndarray:
        assert main(["sample", str(trained), "-n", "4", "-o", str(tmp_path / name), *arguments]) == 0
        return np.asarray(Image.open(tmp_path / name))

    first = drawn("a.png", "--class", "3")
    np.testing.assert_array_equal(first, drawn("b.png", "--class", "3"))
    assert (first != drawn("c.png", "--class", "3", "--seed", "1")).any()
    assert size_of(tmp_path / "a.png") == (4 * 10 - 2, 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--class", "11"], "no class '11'; the classes are: 0, 1, 2"),
        (["--temperature", "0"], "temperature"),
        (["--top-p", "1.5"], "top_p"),
    ],
)
def test_impossible_samples_are_refused(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["sample", str(trained), "-o", str(tmp_path / "no.png"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "no.png").exists()


def test_pictures_of_reconstructions_and_of_the_way_between_two(
    trained: Path, pictures: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.png"
    assert main(["reconstruct", str(trained), *map(str, pictures), "--scale", "3", "-o", str(out)]) == 0
    assert size_of(out) == (3 * (8 * 10 - 2), 3 * (2 * 10 - 2))
    assert main(["interpolate", str(trained), str(pictures[0]), str(pictures[1]), "--steps", "5", "-o", str(out)]) == 0
    assert size_of(out) == (5 * 10 - 2, 8)


def test_evaluation_is_written_down_and_adds_up(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["evaluate", str(run), "--limit", "20"]) == 0
    written = json.loads((run / "evaluation.json").read_text())
    figures = written["figures"]
    assert (written["split"], written["examples"], written["unit"]) == ("test", 20, "images")
    assert figures["rate_bits_per_dim"] == pytest.approx(16 * 3 / 64)  # 4x4 codes of 8 for 64 pixels
    assert figures["bits_per_dim"] == pytest.approx(figures["rate_bits_per_dim"] + figures["distortion_bits_per_dim"])
    learned = figures["prior_rate_bits_per_dim"] + figures["distortion_bits_per_dim"]
    assert figures["prior_bits_per_dim"] == pytest.approx(learned)


def test_a_vae_trains_samples_and_is_bounded_tighter_by_importance_weights(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "vae"
    assert main(["train", str(tiny), "--variant", "vae", "--out", str(run), "--training.steps=30"]) == 0
    assert main(["sample", str(run), "-n", "3"]) == 0
    assert main(["evaluate", str(run), "--samples", "16", "--limit", "30"]) == 0
    figures = json.loads((run / "evaluation.json").read_text())["figures"]
    assert figures["importance_weighted_bits_per_dim"] < figures["bits_per_dim"]


def test_a_run_tells_how_noisy_its_gradient_is_and_what_memory_it_took(tiny: Path, tmp_path: Path) -> None:
    for variant, noisy in ((["--variant", "vae"], True), ([], False)):
        run = tmp_path / str(noisy)
        assert main(["train", str(tiny), *variant, "--out", str(run), "--training.gradient_draws=4"]) == 0
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        noise = [row["gradient_noise"] for row in rows if row["split"] == "validation"]
        assert len(noise) == 2
        assert all((0 < value < 1) == noisy for value in noise)
        assert 50 < rows[0]["peak_memory_mib"] < 50_000


def test_half_precision_trains_to_finite_figures(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "half"
    assert main(["train", str(tiny), "--out", str(run), "--training.precision=bf16"]) == 0
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["bits_per_dim"] < rows[0]["bits_per_dim"] < 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data.validation=0"], "data.validation holds out nothing"),
        (["--model.bottleneck.codebok_size=4"], "codebok_size"),
        (["--training.steps=many"], "training.steps"),
        (["--training.steps=0"], "training.steps is 0"),
        (["--trainin.steps=1"], "--trainin.steps=1"),
        (["--variant", "gpu"], "no variant 'gpu'; it has: vae"),
        (["--data", "missing-folder"], "missing-folder"),
        (["--training.batch_size=5000"], "training.batch_size is 5000"),
        (["--model.encoder.downsamplings=2"], "set data.size"),
        (["--estimator=GumbelSoftmax"], "GumbelSoftmax estimates the gradient of sampled codes, but a CodePosterior"),
        (["--training.gradient_draws=1"], "training.gradient_draws is 1: it must be 0 or at least 2"),
        (["--training.seed=-1"], "training.seed is -1: it must be from 0 to 2^63 - 1"),
        (["--training.seed=99999999999999999999"], "training.seed is 99999999999999999999"),
        (["--training.betas=[1,1]"], "training.betas are [1.0, 1.0]: each must be at least 0 and below 1"),
        (["--training.epsilon=-1"], "training.epsilon is -1.0"),
        (["--training.clip_norm=-1"], "training.clip_norm is -1.0: it must be above 0"),
        (["--training.warmup=-1"], "training.warmup is -1"),
        (["--model.encoder.width=0"], "must be at least 1"),
        (["--model.encoder.blocks=-1"], "blocks at least 0"),
        (["--model.encoder.downsamplings=9"], "this encoder cannot read examples of size (8, 8)"),
        (["--resume"], "holds no run to resume"),
    ],
)
def test_bad_settings_are_named_and_leave_nothing(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["train", str(tiny), "--out", str(tmp_path / "run"), *arguments]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "recipe.yaml").exists()


def test_a_codebook_of_one_code_trains_to_its_report(tiny: Path, tmp_path: Path) -> None:
    assert main(["train", str(tiny), "--out", str(tmp_path / "run"), "--model.bottleneck.codebook_size=1"]) == 0
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize("option", ["--seed=1180591620717411303424", "--seed=-1"])
def test_seeds_beyond_those_there_are_exit_with_two(trained: Path, option: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["sample", str(trained), option])
    assert stop.value.code == 2


def test_an_output_that_is_a_folder_is_named(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.png").mkdir()
    assert main(["sample", str(trained), "-n", "1", "-o", str(tmp_path / "out.png")]) == 1
    assert f"{tmp_path / 'out.png'}: it is a folder" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [b"\xff\xfe", b'{"a": 1}', b"[]", b""])
@pytest.mark.parametrize("name", ["recipe.yaml", "data.json", "evaluation.json", "prior/recipe.yaml", "metrics.jsonl"])
def test_a_damaged_file_of_a_run_is_named_without_a_traceback(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, damage: bytes
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    assert main(["evaluate", str(run), "--limit", "4"]) == 0
    (run / name).write_bytes(damage)
    capsys.readouterr()
    commands = [["evaluate", str(run), "--limit", "4"], ["reconstruct", str(run)]]
    statuses = [main(command) for command in commands]
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert all(status == 0 for status in statuses) or str(run / name) in error


def test_a_corrupt_file_is_skipped_by_name_or_with_strict_stops_the_run(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, pixels in enumerate(open_images(ImageSettings()).train.pixels[:50]):
        Image.fromarray(pixels[0]).save(folder / f"{index:02}.png")
    (folder / "broken.png").write_bytes((folder / "00.png").read_bytes()[:60])
    command = ["train", str(tiny), "--data", str(folder), "--data.validation=0.1"]
    assert main([*command, "--out", str(tmp_path / "strict"), "--strict"]) == 1
    assert "broken.png" in capsys.readouterr().err
    assert not (tmp_path / "strict").exists()
    assert main([*command, "--out", str(tmp_path / "run")]) == 0
    assert "files skipped: 1" in caplog.text
    assert "broken.png" in caplog.text


def test_a_run_is_never_overwritten(trained: Path, tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (trained / "metrics.jsonl").read_bytes()
    assert main(["train", str(tiny), "--out", str(trained)]) == 1
    assert "already holds a run: continue it with --resume" in capsys.readouterr().err
    assert (trained / "metrics.jsonl").read_bytes() == before


def test_unknown_recipes_and_folders_say_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "nonesuch"]) == 1
    assert "`narrows recipes` lists them" in capsys.readouterr().err
    assert main(["sample", str(tmp_path)]) == 1
    assert "holds no trained model" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [["--tempratur", "1"], ["-n", "0"], ["--top-k", "0"], ["--scale", "0"]])
def test_a_misspelt_or_impossible_option_exits_with_two(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["sample", "run", *wrong])
    assert stop.value.code == 2


def test_every_recipe_resolves_with_every_variant(capsys: pytest.CaptureFixture[str]) -> None:
    from narrows.recipe import recipes

    found = list(recipes())
    assert {"vqvae-images", "vqvae-cifar10", "vqvae-imagenet128", "vae-cifar10", "pixelcnn"} <= {r.name for r in found}
    for recipe in found:
        for variant in (None, *recipe.variants):
            assert main(["recipes", recipe.name, *([] if variant is None else ["--variant", variant])]) == 0
            assert "training:" in capsys.readouterr().out
