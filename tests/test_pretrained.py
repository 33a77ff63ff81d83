import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import narrows
from narrows.checksums import SUMS, DamagedError
from narrows.errors import NarrowsError
from narrows.pretrained import ModelError


def test_a_loaded_model_encodes_decodes_and_samples(trained: Path) -> None:
    model = narrows.load(trained)
    x = torch.randint(256, (3, 1, 8, 8)) / 255
    codes = model.encode(x)
    assert (codes.shape, codes.dtype) == ((3, 4, 4), torch.int64)
    assert model.decode(codes).shape == x.shape
    assert model.sample(5, torch.arange(5)).shape == (5, 1, 8, 8)
    assert model.classes == [str(digit) for digit in range(10)]
    assert not model.training


def test_the_prior_is_loaded_with_its_weights(trained: Path) -> None:
    prior = narrows.load(trained).prior
    assert prior is not None
    torch.manual_seed(0)
    codes, labels = torch.randint(8, (4, 4, 4)), torch.tensor([0, 1, 2, 3])
    again = narrows.load(trained).prior
    assert again is not None
    torch.testing.assert_close(prior.log_prob(codes, labels), again.log_prob(codes, labels))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("part", ["model", "prior/model"])
def test_damaged_files_are_named(trained: Path, tmp_path: Path, part: str, name: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    file = run / part / name
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(DamagedError, match=f"{file} is missing or damaged"):
        narrows.load(run)


@pytest.mark.parametrize("part", ["model", "prior/model"])
def test_every_flipped_byte_is_noticed(trained: Path, tmp_path: Path, part: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    draw = torch.Generator().manual_seed(0)
    for file in sorted((run / part).iterdir()):
        whole = file.read_bytes()
        for position in torch.randint(len(whole), (16,), generator=draw).tolist():
            flipped = whole[position] ^ 1 << int(torch.randint(8, (), generator=draw))
            file.write_bytes(whole[:position] + bytes([flipped]) + whole[position + 1 :])
            with pytest.raises(DamagedError, match=str(run / part)):
                narrows.load(run)
        file.write_bytes(whole)
    narrows.load(run)


def test_sums_are_those_of_sha256sum(trained: Path) -> None:
    lines = (trained / "model" / SUMS).read_text().splitlines()
    assert [line.split("  ")[1] for line in lines] == ["config.json", "model.safetensors"]
    assert subprocess.run(["sha256sum", "-c", SUMS], cwd=trained / "model", capture_output=True).returncode == 0


def test_a_model_without_sums_is_loaded_with_a_word(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "model" / SUMS).unlink()
    narrows.load(run)
    assert "so damage cannot be detected" in caplog.text


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"model": 3, "shape": [1, 8, 8], "classes": []}', "\xff", "[" * 10000]
)
def test_a_config_of_anything_else_is_named(trained: Path, tmp_path: Path, content: str) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "model" / SUMS).unlink()
    (run / "model" / "config.json").write_text(content, encoding="latin-1")
    with pytest.raises(NarrowsError, match=r"config\.json"):
        narrows.load(run)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", [1]),
        ("shape", [1, 8, 0]),
        ("shape", [1, 8.0, 8]),
        ("shape", "188"),
        ("classes", [0, 1]),
        ("bounds", []),
        ("bounds", "none"),
        ("bounds", [1, 0]),
        ("bounds", [0, "1"]),
        ("bounds", [0, float("nan")]),
        ("variable", "no"),
        ("rate", 0),
        ("rate", "x"),
    ],
)
def test_data_that_cannot_be_are_named(trained: Path, tmp_path: Path, name: str, value: object) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    config = json.loads((run / "model" / "config.json").read_text())
    config["spec"][name] = value
    (run / "model" / "config.json").write_text(json.dumps(config))
    (run / "model" / SUMS).unlink()
    with pytest.raises(NarrowsError, match=rf"config\.json: {name} is .*, which describes no data"):
        narrows.load(run)


def test_weights_of_another_model_are_refused(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained, tmp_path / "run")
    config = json.loads((run / "model" / "config.json").read_text())
    config["model"]["init_args"]["encoder"]["init_args"]["width"] = 9
    (run / "model" / "config.json").write_text(json.dumps(config))
    (run / "model" / SUMS).unlink()
    with pytest.raises(ModelError, match="of another model"):
        narrows.load(run)


def test_what_is_neither_folder_nor_hub_id_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="neither a run folder nor a model on the hub"):
        narrows.load("no such model")
    with pytest.raises(ModelError, match="holds no trained model"):
        narrows.load(tmp_path)
