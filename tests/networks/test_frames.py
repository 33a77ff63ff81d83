from functools import partial

import pytest
import torch

from narrows.networks import ConvDecoder, ConvEncoder, PerFrameDecoder, PerFrameEncoder
from narrows.networks.frames import AT_ONCE

ENCODER = partial(ConvEncoder, width=4, downsamplings=1, blocks=1)
DECODER = partial(ConvDecoder, width=4, upsamplings=1, blocks=1)


@pytest.mark.parametrize("frames", [1, 3, AT_ONCE + 5])
def test_every_frame_is_processed_as_if_alone(frames: int) -> None:
    x = torch.rand(2, 3, frames, 6, 8)
    encoder, decoder = PerFrameEncoder(3, 5, ENCODER), PerFrameDecoder(5, 2, DECODER)
    features, z = encoder(x), torch.rand(2, 5, frames, 3, 4)
    outputs = decoder(z)
    assert features.shape == (2, 5, frames, 3, 4)
    assert outputs.shape == (2, 2, frames, 6, 8)
    for frame in range(frames):
        torch.testing.assert_close(features[:, :, frame], encoder.encoder(x[:, :, frame]))
        torch.testing.assert_close(outputs[:, :, frame], decoder.decoder(z[:, :, frame]))
    with torch.no_grad():  # in parts
        torch.testing.assert_close(encoder(x), features)
        torch.testing.assert_close(decoder(z), outputs)
