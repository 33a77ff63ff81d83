"""Files of older formats are read, those of newer ones are refused, and each says its kind of data by one key."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import narrows
from narrows.cli import main
from narrows.errors import NarrowsError
from narrows.migrations import FORMATS, migrate, short_names, up_to_date
from narrows.modalities.recipes import resolve_training

SAVED = Path(__file__).parent / "saved"
CONFIGS = {"model": "model/config.json", "prior": "prior/model/config.json"}


def edited(tmp_path: Path, kind: str, **changes: Any) -> Path:
    """A saved run, one of whose config.json was edited."""
    run = shutil.copytree(SAVED / "sound", tmp_path / "run")
    file = run / CONFIGS[kind]
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return run


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_newer_format_is_refused(tmp_path: Path, kind: str) -> None:
    run = edited(tmp_path, kind, format=FORMATS[kind] + 1)
    with pytest.raises(NarrowsError, match=rf"{CONFIGS[kind]} has format 3, .*update narrows"):
        narrows.load(run)


@pytest.mark.parametrize("version", [0, -1, True, "two", 1.5, None])
def test_what_is_no_format_is_refused(version: Any) -> None:
    with pytest.raises(NarrowsError, match=r"config\.json: format is"):
        migrate("model", {"format": version}, "config.json")


def test_a_newer_file_of_codes_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with np.load(SAVED / "images" / "codes.npz") as opened:
        content = {name: opened[name] for name in opened.files}
    np.savez(tmp_path / "codes.npz", **content, format=np.array(9))
    assert main(["decode", str(SAVED / "images"), str(tmp_path / "codes.npz"), "-o", str(tmp_path / "out")]) == 1
    assert "codes.npz has format 9, written by a newer version" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["images", "sound"])
def test_the_first_format_says_what_the_second_does(kind: str, tmp_path: Path) -> None:
    """A run that is loaded and saved again describes the same data, parts and classes by their short names."""
    from narrows.pretrained import save_autoencoder

    model = narrows.load(SAVED / kind)
    save_autoencoder(tmp_path / "model", model, (SAVED / kind / "recipe.yaml").read_text())
    found = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (found["format"], found["modality"]) == (2, kind)
    first = json.loads((SAVED / kind / "model" / "config.json").read_text())
    assert found["spec"]["shape"] == first["shape"]
    assert found["spec"]["classes"] == first["classes"]
    again = migrate("model", first, "config.json")
    assert again["spec"].items() <= {**found["spec"], "bounds": [int(x) for x in found["spec"]["bounds"]]}.items()
    assert "narrows." not in json.dumps(again)
    model.load_state_dict(narrows.load(SAVED / kind).state_dict())


def test_old_names_of_classes_and_recipes_without_a_modality_are_understood() -> None:
    old = {
        "model": {
            "class_path": "narrows.models.SoundAutoencoder",
            "init_args": {"encoder": {"class_path": "ImageStem"}},
        }
    }
    new = up_to_date(old)
    assert new["modality"] == "images"
    assert new["model"]["class_path"] == "Autoencoder"
    assert new["model"]["init_args"]["encoder"]["class_path"] == "Stem"
    assert short_names({"class_path": "narrows.networks.Stem"}) == {"class_path": "Stem"}
    assert short_names([{"class_path": "other.Stem"}]) == [{"class_path": "other.Stem"}]


def test_an_unknown_modality_is_refused_and_the_known_are_listed(tmp_path: Path) -> None:
    settings = yaml.safe_load((SAVED / "sound" / "recipe.yaml").read_text())
    with pytest.raises(NarrowsError, match="modality is 'smell'; it must be one of images, sound"):
        resolve_training({**settings, "modality": "smell"})


@pytest.mark.parametrize(
    ("recipe", "ending", "other"),
    [
        ("vqvae-speech", "png", "images"),
        ("vqvae-images", "wav", "sound"),
        ("vqvae-images", "mp4", "video"),
        ("vqvae-video", "wav", "sound"),
    ],
)
def test_a_recipe_given_data_of_another_kind_says_which(
    recipe: str, ending: str, other: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "a" / f"1.{ending}").write_bytes(b"any")
    run = tmp_path / "run"
    assert main(["train", recipe, "--data", str(tmp_path / "data"), "--out", str(run)]) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert f"the source holds files of {other}: use a recipe of {other}" in message
    assert not run.exists()
