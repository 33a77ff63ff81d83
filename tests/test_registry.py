"""A file builds narrows' own classes of the wanted kind and nothing else, unless its code is trusted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import narrows
from narrows.checksums import SUMS
from narrows.cli import main
from narrows.config import resolve
from narrows.modalities.recipes import resolve_training
from narrows.recipe import find_recipe, recipes
from narrows.registry import CodeError, trusted_code

CALLABLES = [
    "os.system",
    "posix.system",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "pathlib.Path.unlink",
    "shutil.rmtree",
    "importlib.import_module",
    "functools.partial",
    "torch.load",
    "torch.nn.Linear",
    "narrows.load",
    "narrows.priors.sample",
    "narrows.atomic.whole_file",
    "narrows.cli.os.system",
    "narrows.training.run.RunFolder",
    "mine.Encoder",
]
MINE = """
from pathlib import Path
Path(__file__).with_name("imported").touch()
from narrows.networks import ConvEncoder
class Encoder(ConvEncoder):
    def __init__(self, inputs: int, outputs: int, width: int = 8) -> None:
        Path(__file__).with_name("called").touch()
        super().__init__(inputs, outputs, width, downsamplings=1, blocks=1)
"""


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a stranger's command would leave; `mine` is a module of someone's own."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(__import__("sys").modules, "mine", raising=False)
    return tmp_path / "marker"


def place_at(tree: dict[str, Any], place: str, name: str, marker: Path) -> None:
    spec = {"class_path": name, "init_args": {"command": f"touch {marker}", "args": ["touch", str(marker)]}}
    *path, last = place.split(".")
    for key in path:
        tree = tree[key]
    if last == "care":
        tree[last] = [spec]
    else:
        tree[last] = name if last == "likelihood" else spec


PLACES = ["model", "model.init_args.encoder", "model.init_args.bottleneck.init_args.care", "model.init_args.likelihood"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", CALLABLES)
def test_no_callable_of_others_is_built_from_a_config(
    trained: Path, tmp_path: Path, marker: Path, name: str, place: str
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    file = run / "model" / "config.json"
    config = json.loads(file.read_text())
    place_at(config, place, name, marker)
    file.write_text(json.dumps(config))
    (run / "model" / SUMS).unlink()
    with pytest.raises(CodeError, match=rf"{file}: .* is '{name}', which is not a class of narrows.*--trust-code"):
        narrows.load(run)
    assert not marker.exists()
    assert not list((tmp_path / "modules").glob("*ed"))


@pytest.mark.parametrize("name", CALLABLES)
def test_nor_from_the_config_of_a_prior(trained: Path, tmp_path: Path, marker: Path, name: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    file = run / "prior" / "model" / "config.json"
    config = json.loads(file.read_text())
    place_at(config, "prior", name, marker)
    file.write_text(json.dumps(config))
    (run / "prior" / "model" / SUMS).unlink()
    with pytest.raises(CodeError, match=f"{file}: prior.class_path is '{name}'"):
        narrows.load(run)
    assert not marker.exists()


@pytest.mark.parametrize("command", [["evaluate"], ["train", "tiny", "--resume", "--out"], ["reconstruct"]])
def test_nor_from_the_recipe_of_a_run(
    trained: Path, tmp_path: Path, marker: Path, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    settings = yaml.safe_load((run / "recipe.yaml").read_text())
    place_at(settings, "estimator", "os.system", marker)
    (run / "recipe.yaml").write_text(yaml.safe_dump(settings))
    command = [str(trained.parent / "tiny.yaml") if word == "tiny" else word for word in command]
    assert main([*command, str(run)]) == 1
    assert "estimator.class_path is 'os.system', which is not a class of narrows" in capsys.readouterr().err
    assert not marker.exists()


def test_text_in_the_place_of_a_class_is_never_looked_into(marker: Path) -> None:
    for text in ("os.system", f"{{class_path: os.system, init_args: {{command: touch {marker}}}}}", "mine.Encoder"):
        settings = find_recipe("vqvae-digits").settings
        settings["model"]["init_args"]["encoder"] = text
        with pytest.raises(CodeError, match=r"model\.init_args\.encoder is"):
            resolve_training(settings)
    assert not list(marker.parent.glob("modules/*ed"))
    assert not marker.exists()


def test_a_class_of_another_kind_is_refused() -> None:
    for place, name in {
        "encoder": "VectorQuantizer",
        "decoder": "narrows.likelihoods.Bernoulli",
        "bottleneck": "ConvEncoder",
        "likelihood": "Gaussian",
    }.items():
        settings = find_recipe("vqvae-digits").settings
        settings["model"]["init_args"][place] = {"class_path": name}
        with pytest.raises(narrows.NarrowsError):
            resolve_training(settings)


def test_every_recipe_names_classes_of_narrows_alone() -> None:
    for recipe in recipes():
        if "prior" not in recipe.settings:
            assert yaml.safe_load(resolve_training(recipe.settings).yaml)


def test_classes_of_ones_own_need_trust_and_then_train_and_load(
    tiny: Path, tmp_path: Path, marker: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    settings = yaml.safe_load(tiny.read_text())
    settings["model"]["init_args"]["encoder"] = {"class_path": "mine.Encoder"}
    tiny.write_text(yaml.safe_dump(settings))
    assert main(["train", str(tiny), "--out", str(run)]) == 1
    assert "mine.Encoder" in capsys.readouterr().err
    assert not run.exists()
    assert main(["train", str(tiny), "--out", str(run), "--trust-code"]) == 0
    assert main(["evaluate", str(run), "--limit", "4"]) == 1
    assert main(["evaluate", str(run), "--limit", "4", "--trust-code"]) == 0
    with pytest.raises(CodeError):
        narrows.load(run)
    assert type(narrows.load(run, trust_code=True).encoder).__name__ == "Encoder"
    with pytest.raises(CodeError):
        narrows.load(run)


def test_trust_ends_with_its_block() -> None:
    settings = find_recipe("vqvae-digits").settings
    settings["model"]["init_args"]["encoder"] = {"class_path": "torch.nn.Linear"}
    with trusted_code(True), trusted_code(False):
        resolve(narrows.config.ModelRecipe, {"model": settings["model"]})
    with pytest.raises(CodeError):
        resolve(narrows.config.ModelRecipe, {"model": settings["model"]})
