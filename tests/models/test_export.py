"""Encoder and decoder whole, exported."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch.export import Dim

from narrows.bottlenecks import FSQ, Bottleneck, Gaussian, ResidualQuantizer, VectorQuantizer
from narrows.likelihoods import DiscretizedLogistic
from narrows.models import Autoencoder, CodesOf, DataOf
from narrows.networks import ConvDecoder, ConvEncoder

BOTTLENECKS = {
    "vector": lambda: VectorQuantizer(dim=4, codebook_size=50),
    "residual": lambda: ResidualQuantizer.of(dim=4, codebook_size=50, depth=2),
    "fsq": lambda: FSQ([8, 5, 5]),
    "continuous": lambda: Gaussian(channels=3),
}
BATCH = Dim("batch", max=4096)
# A latent for every 4x4 pixels.
ROWS, COLUMNS = Dim("rows", max=256), Dim("columns", max=256)


@pytest.fixture(params=BOTTLENECKS)
def model(request: pytest.FixtureRequest) -> Autoencoder:
    torch.manual_seed(0)
    bottleneck: Bottleneck = BOTTLENECKS[request.param]()
    encoder, decoder = partial(ConvEncoder, width=8, blocks=1), partial(ConvDecoder, width=8, blocks=1)
    made = Autoencoder((3, 16, 16), encoder, bottleneck, decoder, DiscretizedLogistic).eval()
    if isinstance(bottleneck, VectorQuantizer):
        bottleneck.codebook.vectors.normal_(std=0.1)
    return made


def images(batch: int) -> torch.Tensor:
    return torch.rand(batch, 3, 16, 16, generator=torch.Generator().manual_seed(batch))


def test_both_halves_export_with_any_batch(model: Autoencoder) -> None:
    encoder = torch.export.export(CodesOf(model), (images(3),), dynamic_shapes=({0: BATCH},)).module()
    decoder = torch.export.export(DataOf(model), (model.encode(images(3)),), dynamic_shapes=({0: BATCH},)).module()
    for batch in (1, 5, 64):
        x = images(batch)
        codes = model.encode(x)
        torch.testing.assert_close(encoder(x), codes)
        torch.testing.assert_close(decoder(codes), model.decode(codes))


def test_images_of_any_size_are_encoded_by_convolutions(model: Autoencoder) -> None:
    program = torch.export.export(
        CodesOf(model), (images(3),), dynamic_shapes=({0: BATCH, 2: 4 * ROWS, 3: 4 * COLUMNS},)
    ).module()
    x = torch.rand(2, 3, 32, 20)
    posterior = model.posterior(x)
    torch.testing.assert_close(program(x), posterior.mode if posterior.codes is None else posterior.codes)


def test_codes_of_any_grid_are_decoded_by_convolutions(model: Autoencoder) -> None:
    codes = model.encode(images(3))
    first = 1 if model.discrete else 2
    program = torch.export.export(
        DataOf(model), (codes,), dynamic_shapes=({0: BATCH, first: ROWS, first + 1: COLUMNS},)
    ).module()
    posterior = model.posterior(torch.rand(2, 3, 32, 20))
    given = posterior.mode if posterior.codes is None else posterior.codes
    torch.testing.assert_close(program(given), model.decode(given))


def test_onnx_gives_the_codes_and_the_images(model: Autoencoder, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    parts = {"encoder": (CodesOf(model), images(3)), "decoder": (DataOf(model), model.encode(images(3)))}
    sessions = {}
    for name, (module, given) in parts.items():
        file = tmp_path / f"{name}.onnx"
        torch.onnx.export(module, (given,), file, dynamo=True, dynamic_shapes=({0: BATCH},), verbose=False)
        sessions[name] = onnxruntime.InferenceSession(file)

    def run(name: str, given: torch.Tensor) -> torch.Tensor:
        (taken,) = sessions[name].get_inputs()
        return torch.from_numpy(sessions[name].run(None, {taken.name: given.numpy()})[0])

    for batch in (1, 5, 63):
        x = images(batch)
        codes = model.encode(x)
        torch.testing.assert_close(run("encoder", x), codes, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(run("decoder", codes), model.decode(codes), rtol=1e-4, atol=1e-5)
