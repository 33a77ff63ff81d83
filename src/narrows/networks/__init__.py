"""Plain modules, without losses."""

from narrows.networks.causal import CausalTransformer
from narrows.networks.codes import CodeTransformer
from narrows.networks.conv import ConvDecoder, ConvEncoder
from narrows.networks.hierarchy import ImageHead, ImageStem
from narrows.networks.mlp import MLPDecoder, MLPEncoder
from narrows.networks.spectrogram import SpectrogramEncoder
from narrows.networks.strided import StridedDecoder, StridedEncoder, WaveNetDecoder
from narrows.networks.transformer import PatchTransformer
from narrows.networks.wavenet import WaveNet

__all__ = [
    "CausalTransformer",
    "CodeTransformer",
    "ConvDecoder",
    "ConvEncoder",
    "ImageHead",
    "ImageStem",
    "MLPDecoder",
    "MLPEncoder",
    "PatchTransformer",
    "SpectrogramEncoder",
    "StridedDecoder",
    "StridedEncoder",
    "WaveNet",
    "WaveNetDecoder",
]
