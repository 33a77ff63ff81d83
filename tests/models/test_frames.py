"""Data of variable length along the first of several axes, such as clips of frames: codes [T, h, w]."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from narrows.bottlenecks import VectorQuantizer
from narrows.commands.codes import CodesOfFiles, read_codes, write_codes
from narrows.commands.prior import codes_of
from narrows.data import Batch, Spec
from narrows.data.sequences import Sequences
from narrows.errors import NarrowsError
from narrows.estimators import Pathwise
from narrows.evaluation import measure
from narrows.likelihoods import DiscretizedLogistic
from narrows.models import Autoencoder
from narrows.networks import ConvDecoder, ConvEncoder, PerFrameDecoder, PerFrameEncoder
from narrows.priors import FramePixelCNN
from narrows.sampling import Sampling
from narrows.training.tasks import AutoencoderTask

ENCODER = partial(ConvEncoder, width=8, downsamplings=1, blocks=1)
DECODER = partial(ConvDecoder, width=8, upsamplings=1, blocks=1)
WINDOW, CODES = 4, 8


class Films(Sequences):
    """Clips [T, 3, 6, 8] of any number of frames."""

    def batches(self, plan):  # type: ignore[no-untyped-def]
        raise NotImplementedError

    def batch(self, values: Tensor, lengths: Tensor, labels: Tensor) -> Batch:
        return Batch(values.transpose(1, 2))


def films(*lengths: int) -> Films:
    values = np.random.default_rng(0).integers(0, 256, (sum(lengths), 3, 6, 8)).astype(np.float32) / 255
    names = [str(index) for index in range(len(lengths))]
    return Films(values, np.cumsum([0, *lengths]), names, np.full(len(lengths), -1), [], WINDOW)


def quantizer() -> VectorQuantizer:
    made = VectorQuantizer(dim=3, codebook_size=CODES, care=[])
    made.codebook.vectors.normal_()
    return made


def model(frame_shape: tuple[int, int] = (6, 8)) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(
        Spec((3, WINDOW, *frame_shape), variable=True, rate=10.0),
        partial(PerFrameEncoder, encoder=ENCODER),
        quantizer(),
        partial(PerFrameDecoder, decoder=DECODER),
        DiscretizedLogistic,
    ).eval()


def alone(films: Autoencoder) -> Autoencoder:
    """The model of single frames with the same weights."""
    frame = Autoencoder(Spec((3, 6, 8)), ENCODER, quantizer(), DECODER, DiscretizedLogistic).eval()
    frame.encoder.load_state_dict(films.encoder.encoder.state_dict())
    frame.decoder.load_state_dict(films.decoder.decoder.state_dict())
    frame.bottleneck.load_state_dict(films.bottleneck.state_dict())
    frame.likelihood.load_state_dict(films.likelihood.state_dict())
    return frame


def test_a_clip_is_modelled_as_its_frames_are() -> None:
    clips, frames, x = model(), alone(model()), torch.rand(2, 3, 7, 6, 8)
    singles = x.transpose(1, 2).flatten(0, 1)
    assert clips.grid == (WINDOW, 3, 4)
    assert clips.encode(x).shape == (2, 7, 3, 4)
    assert torch.equal(clips.encode(x).flatten(0, 1), frames.encode(singles))
    torch.testing.assert_close(clips.reconstruct(x).transpose(1, 2).flatten(0, 1), frames.reconstruct(singles))
    torch.testing.assert_close(clips.decode(clips.encode(x)), clips.reconstruct(x))
    apart = clips.encode_all([x[0, :, :3], x[1]])
    assert torch.equal(apart[0], clips.encode(x)[0, :3])
    torch.testing.assert_close(clips.decode_all(apart)[0], clips.reconstruct(x)[0, :, :3])
    walk = clips.interpolate(x[:1], x[1:], steps=3)
    torch.testing.assert_close(walk[0, 2], clips.reconstruct(x)[1])


def test_figures_of_clips_are_those_of_their_frames() -> None:
    clips = films(5, 2)
    whole = measure(model(), clips).figures
    frames = alone(model())
    _, evidence = frames.evidence(Batch(torch.from_numpy(clips.values)), lambda posterior: posterior.draw(1))
    bits = -evidence.log_likelihood.double().sum().item() / clips.values.size / np.log(2)
    assert whole["distortion_bits_per_dim"] == pytest.approx(bits)
    assert whole["rate_bits_per_dim"] == pytest.approx(12 * 3 / (3 * 6 * 8))
    assert whole["bits_per_second"] == pytest.approx(12 * 3 / (6 * 8) * 10)


def test_padding_changes_no_loss_and_no_gradient() -> None:
    """Twice as many frames, of which the second half is junk outside the mask."""
    longer = torch.randint(256, (2, 3, 2 * WINDOW, 6, 8), generator=torch.Generator().manual_seed(1)) / 255
    x, found = longer[:, :, :WINDOW], []
    mask = (torch.arange(2 * WINDOW) < WINDOW)[None, :, None, None].expand(2, -1, 6, 8)
    for batch in (Batch(x), Batch(longer, mask)):
        task = AutoencoderTask(model().train(), Pathwise(), Batch)
        loss, figures = task(*batch[: 1 if batch.mask is None else 2])
        loss.backward()
        gradients = [parameter.grad for parameter in task.parameters() if parameter.grad is not None]
        vectors = task.model.bottleneck.codebook.vectors.clone()
        found.append((loss, figures["rate_bits_per_dim"], vectors, *gradients))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_codes_of_clips_are_windows_that_a_prior_models() -> None:
    clips = model()
    data = films(7, 4)
    spec = clips.codes_of((3, *clips.grid[1:]))
    coded = codes_of(clips, data, spec)
    first = clips.encode(data[0].unsqueeze(0))[0]
    assert coded.codes.shape == (7, 3, 3, 4)
    starts = [0, 1, 2, 3, 4]
    for window, start in zip(coded.codes, starts, strict=False):
        np.testing.assert_array_equal(window, first[start : start + 3])
    prior = FramePixelCNN(spec, layers=1, width=8, head_width=8)
    assert clips.takes(prior.spec)
    clips.prior = prior.eval()
    assert clips.sampled_length == 3
    assert clips.sample(2, sampling=Sampling(seed=0)).shape == (2, 3, 3, 6, 8)
    assert measure(clips, data).figures["prior_bits_per_dim"] > 0


def test_codes_of_clips_of_different_lengths_survive_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("narrows.commands.codes.fingerprint", lambda folder: "")
    clips = model()
    codes = [part.numpy() for part in clips.encode_all([torch.rand(3, 5, 6, 8), torch.rand(3, 2, 6, 8)])]
    coded = CodesOfFiles(codes, [(5, 6, 8), (2, 6, 8)], ["a.mp4", "b.mp4"])
    write_codes(tmp_path / "codes.npz", str(tmp_path), coded)
    found = read_codes(tmp_path / "codes.npz", str(tmp_path))
    assert found.sizes == coded.sizes
    for one, other in zip(found.codes, codes, strict=True):
        np.testing.assert_array_equal(one, other)


class Pooled(nn.Module):
    """Two frames become one latent, and one latent two frames."""

    hop = 2

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Conv3d(inputs, outputs, 2, stride=2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.layer(x)


class Unpooled(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.ConvTranspose3d(inputs, outputs, 2, stride=2)

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.layer(z)


def test_clips_are_filled_to_whole_latents() -> None:
    torch.manual_seed(0)
    clips = Autoencoder(
        Spec((3, WINDOW, 6, 8), variable=True), Pooled, quantizer(), Unpooled, DiscretizedLogistic
    ).eval()
    x = torch.rand(2, 3, 5, 6, 8)
    filled = clips.filled(Batch(x))
    assert clips.grid == (2, 3, 4)
    assert filled.x.shape == (2, 3, 6, 6, 8)
    assert filled.mask is not None
    assert torch.equal(filled.mask.all((0, 2, 3)), torch.arange(6) < 5)
    latents = clips.latent_mask(filled.mask, (3, 3, 4))
    assert latents is not None
    assert latents.shape == (2, 3, 3, 4)
    assert latents.all()
    beyond = filled.mask & (torch.arange(6) < 4)[:, None, None]
    assert torch.equal(clips.latent_mask(beyond, (3, 3, 4)).all((0, 2, 3)), torch.tensor([True, True, False]))
    assert clips.encode(x).shape == (2, 3, 3, 4)
    assert clips.reconstruct(x).shape == x.shape


def test_frames_that_do_not_halve_are_refused() -> None:
    with pytest.raises(NarrowsError, match=r"size \(1, 7, 8\) into \(1, 6, 8\): set data.size to a multiple"):
        model((7, 8))
