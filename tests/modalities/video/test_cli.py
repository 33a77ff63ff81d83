"""From files to models, codes, films and reports, as a user would go."""

import base64
import io
import json
import math
import re
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from narrows.cli import main
from narrows.commands.prior import codes_of
from narrows.commands.source import open_run, open_run_data
from narrows.modalities.video.dataset import VideoData, open_video
from narrows.modalities.video.modality import MODALITY
from narrows.modalities.video.settings import VideoSettings
from narrows.pretrained import load
from narrows.priors import Condition
from tests.modalities.video.helpers import numbered, walk, write_video, write_walks

RECIPE = """
modality: video
model:
  class_path: Autoencoder
  init_args:
    encoder:
      class_path: PerFrameEncoder
      init_args: {encoder: {class_path: ConvEncoder, init_args: {width: 8, downsamplings: 2, blocks: 1}}}
    bottleneck: {class_path: VectorQuantizer, init_args: {dim: 4, codebook_size: 8}}
    decoder:
      class_path: PerFrameDecoder
      init_args: {decoder: {class_path: ConvDecoder, init_args: {width: 8, upsamplings: 2, blocks: 1}}}
    likelihood: {class_path: DiscretizedLogistic}
estimator: {class_path: Pathwise}
data: {window: 4, stride: 1, validation: 0.2, action_names: [left, right, stay]}
training: {steps: 6, batch_size: 4, log_every: 2, validate_every: 3, checkpoint_every: 3}
"""
PRIOR = """
prior:
  class_path: FramePixelCNN
  init_args: {frames: 2, context_width: 8, blocks: 1, layers: 1, width: 8, first_kernel_size: 3, head_width: 8}
window: 5
training: {steps: 4, batch_size: 4, log_every: 2, validate_every: 2, checkpoint_every: 2}
"""
UPON = """
modality: video
model:
  class_path: Stacked
  init_args:
    encoder: {class_path: GlobalEncoder, init_args: {width: 4, downsamplings: 2, blocks: 0}}
    bottleneck: {class_path: VectorQuantizer, init_args: {dim: 2, codebook_size: 4, codebooks: 3}}
    context: {class_path: GlobalDecoder, init_args: {width: 4, upsamplings: 2, blocks: 0}}
    decoder:
      class_path: FramePixelCNN
      init_args:
        {frames: 1, context_width: 4, blocks: 1, layers: 1, width: 4, first_kernel_size: 3, head_width: 4, hidden: 0.0}
    embedding: 2
    channels: 4
estimator: {class_path: Pathwise}
data: {window: 4, stride: 1, validation: 0.2, action_names: [left, right, stay]}
training: {steps: 4, batch_size: 4, log_every: 2, validate_every: 2, checkpoint_every: 2}
"""
UPON_PRIOR = """
prior: {class_path: TransformerPrior, init_args: {layers: 1, width: 8, heads: 2}}
window: 2
training: {steps: 2, batch_size: 4, log_every: 1, validate_every: 2, checkpoint_every: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Walks, recipes, and a model of walks with its prior."""
    folder = tmp_path_factory.mktemp("video")
    write_walks(folder / "walks" / "train.npz", episodes=8, rate=5.0)
    write_walks(folder / "walks" / "test.npz", episodes=2, rate=5.0)
    (folder / "tiny.yaml").write_text(RECIPE)
    (folder / "prior.yaml").write_text(PRIOR)
    assert (
        main(["train", str(folder / "tiny.yaml"), "--data", str(folder / "walks"), "--out", str(folder / "run")]) == 0
    )
    assert main(["prior", str(folder / "run"), "--recipe", str(folder / "prior.yaml")]) == 0
    return folder


def frames_in(path: Path) -> tuple[int, int, int]:
    """The number of frames of a film, and their height and width."""
    with av.open(str(path)) as film:
        pictures = [frame.to_image() for frame in film.decode(film.streams.video[0])]
    return len(pictures), pictures[0].height, pictures[0].width


def test_a_run_and_its_report(folder: Path) -> None:
    model = load(folder / "run")
    assert (model.hop, model.grid, model.shape) == (1, (4, 4, 4), (3, 4, 16, 16))
    assert model.spec.rate == 5
    assert model.prior is not None
    assert (model.prior.grid, model.prior.channels) == ((5, 4, 4), 3)
    page = (folder / "run" / "report.html").read_text()
    titles = re.findall(r"<h2[^>]*>([^<]*)", page)
    assert titles[:3] == ["Reconstructions", "Samples", "Bits per dimension"]
    assert "with 3 actions (left, right, stay)" in page
    assert "dB PSNR" in page
    films = re.findall(r"data:image/webp;base64,([^\"]+)", page)
    shown = Image.open(io.BytesIO(base64.b64decode(films[0])))
    assert (shown.info["loop"], shown.size) == (0, (16, 16))
    durations = [frame.load() and frame.info["duration"] for frame in ImageSequence.Iterator(shown)]
    assert sum(durations) == 20 * 200  # equal frames may be joined
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert {"psnr", "ssim", "bits_per_second"} <= set(rows[-1])
    assert "<script src" not in page


def test_a_run_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    data, out = ["--data", str(folder / "walks")], ["--out", str(tmp_path / "run")]
    assert main(["train", str(folder / "tiny.yaml"), *data, *out, "--training.steps=3"]) == 0
    assert main(["train", str(folder / "tiny.yaml"), *out, "--resume", "--training.steps=6"]) == 0
    one, other = (load(path).state_dict() for path in (folder / "run", tmp_path / "run"))
    assert all(torch.equal(value, other[name]) for name, value in one.items() if not name.startswith("prior."))


def test_reconstructions_samples_and_walks_are_films_and_strips(folder: Path, tmp_path: Path) -> None:
    run = str(folder / "run")
    assert main(["reconstruct", run, "--out", str(tmp_path / "made")]) == 0
    assert frames_in(tmp_path / "made" / "test episode 1.mp4") == (20, 15 * 16, 15 * (2 * 16 + 4))
    assert Image.open(tmp_path / "made" / "test episode 1.png").size == (10 * 18 - 2, 2 * 18 - 2)
    assert main(["sample", run, "-n", "4", "--film", "gif", "--scale", "2", "--out", str(tmp_path / "drawn")]) == 0
    film = Image.open(tmp_path / "drawn" / "003.gif")
    assert (len(list(ImageSequence.Iterator(film))), film.size, film.info["duration"]) == (5, (32, 32), 200)
    assert Image.open(tmp_path / "drawn" / "strip.png").size == (2 * (5 * 18 - 2), 2 * (4 * 18 - 2))
    assert (tmp_path / "drawn" / "index.html").exists()
    for name, seed in (("a", 5), ("b", 6)):
        write_video(tmp_path / f"{name}.mp4", walk(8, seed)[0], rate=5)
    ends = [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]
    assert main(["interpolate", run, *ends, "--steps", "3", "--out", str(tmp_path / "between")]) == 0
    assert frames_in(tmp_path / "between" / "002.mp4") == (8, 240, 240)


def test_films_become_codes_and_films_again(folder: Path, tmp_path: Path) -> None:
    """Files of any size, rate and actions: frames are brought to the model's."""
    write_video(tmp_path / "a.mp4", numbered(20, (32, 48)), rate=10)
    write_video(tmp_path / "b.mkv", numbered(5, (16, 16)), rate=5)
    codes, run = tmp_path / "codes.npz", str(folder / "run")
    assert main(["encode", run, str(tmp_path / "a.mp4"), str(tmp_path / "b.mkv"), "--out", str(codes)]) == 0
    with np.load(codes) as content:
        assert content["codes"].shape == (2, 10, 4, 4)
        assert content["lengths"].tolist() == [10, 5]
        assert content["sizes"].tolist() == [[10, 16, 16], [5, 16, 16]]
    assert main(["decode", run, str(codes), "--out", str(tmp_path / "again")]) == 0
    assert frames_in(tmp_path / "again" / "a.mp4") == (10, 16, 16)
    model = load(run)
    (x,) = MODALITY.read([tmp_path / "b.mkv"], model.spec)
    (found,) = MODALITY.read([tmp_path / "again" / "b.mp4"], model.spec)
    assert (found - model.reconstruct(x.unsqueeze(0))[0]).abs().mean() < 0.02


def test_figures_are_those_of_frames(folder: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(folder / "run"), "--split", "test"]) == 0
    found = json.loads((folder / "run" / "evaluation.json").read_text())["figures"]
    model = load(folder / "run")
    data = open_video(VideoSettings(str(folder / "walks"), window=4))
    x = torch.cat([data.test[index] for index in range(2)], 1)
    y = model.reconstruct(x.unsqueeze(0))[0]
    mse = (x - y).square().mean((0, 2, 3))
    assert found["mse"] == pytest.approx(mse.mean().item(), rel=1e-4)
    assert found["psnr"] == pytest.approx((-10 * mse.log10()).mean().item(), rel=1e-4)
    assert model.prior is not None
    nats = 0.0
    for index in range(2):
        frames, features = next(data.test.taken(index).whole(1))
        codes = model.encode(data.test.batch(frames, features).x)
        for at in range(0, 20, 5):
            given = Condition(features=features[:, at : at + 5].mT[..., None, None])
            nats -= model.prior.log_prob(codes[:, at : at + 5], given).sum().item()
    rate = nats / math.log(2) / (2 * 20 * 16 * 16 * 3)
    assert found["prior_rate_bits_per_dim"] == pytest.approx(rate, rel=1e-4)
    assert found["prior_bits_per_dim"] == pytest.approx(found["distortion_bits_per_dim"] + rate, rel=1e-4)


def test_models_and_priors_are_trained_on_mirrored_clips(folder: Path, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    data_of = ["--data", str(folder / "walks"), "--data.action_names=[]", "--data.mirror=true"]
    assert main(["train", str(folder / "tiny.yaml"), *data_of, "--data.mirror_actions=[[0,1]]", "--out", run]) == 0
    assert "also mirrored" in (tmp_path / "run" / "report.html").read_text()
    model = load(run)
    data = open_run_data(open_run(run), model)
    assert isinstance(data, VideoData)
    whole, once = (codes_of(model, part, model.codes_of((5, 4, 4))) for part in (data.augmented, data.train))
    assert len(whole.codes) == 2 * len(once.codes)
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("narrows.commands.prior.codes_of", lambda *given: seen.append(given[1]) or codes_of(*given))
        assert main(["prior", run, "--recipe", str(folder / "prior.yaml")]) == 0
    assert len(seen[0]) == 2 * len(data.train)
    assert len(seen[1]) == len(data.validation)


def test_a_second_level_upon_codes_of_films(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "upon.yaml").write_text(UPON)
    (tmp_path / "prior.yaml").write_text(UPON_PRIOR)
    run = str(tmp_path / "upon")
    data = ["--data", str(folder / "walks"), "--on", str(folder / "run")]
    assert main(["train", str(tmp_path / "upon.yaml"), *data, "--out", run]) == 0
    assert main(["prior", run, "--recipe", str(tmp_path / "prior.yaml")]) == 0
    model = load(run)
    assert (model.hop, model.grid, model.prior is not None and model.prior.grid) == (4, (1,), (2,))
    assert "Imagined frames" not in (tmp_path / "upon" / "report.html").read_text()
    assert main(["reconstruct", run, "--draws", "2", "--out", str(tmp_path / "made")]) == 0
    assert frames_in(tmp_path / "made" / "test episode 1.mp4")[0] == 20
    assert main(["sample", run, "-n", "2", "--out", str(tmp_path / "drawn")]) == 0
    assert frames_in(tmp_path / "drawn" / "000.mp4")[0] == 8
    assert main(["evaluate", run]) == 0
    figures = json.loads((tmp_path / "upon" / "evaluation.json").read_text())["figures"]
    codes = 16 / (3 * 16 * 16)  # codes for each value of a pixel
    assert figures["codes_bits_per_dim"] == pytest.approx(figures["bits_per_code"] * codes)
    assert figures["rate_bits_per_dim"] == pytest.approx(3 * 2 / (4 * 3 * 16 * 16))
    capsys.readouterr()
    assert main(["imagine", run, "--start", str(folder / "walks" / "test.npz")]) == 1
    assert "describes 4 frames together" in capsys.readouterr().err
