"""Plain modules, without losses."""

from narrows.networks.causal import CausalTransformer
from narrows.networks.codes import CodeTransformer
from narrows.networks.conv import ConvDecoder, ConvEncoder
from narrows.networks.decoder import AutoregressiveDecoder
from narrows.networks.frames import PerFrameDecoder, PerFrameEncoder
from narrows.networks.hierarchy import Head, Stem
from narrows.networks.mlp import MLPDecoder, MLPEncoder
from narrows.networks.recurrent import AutoregressiveRecurrentDecoder, RecurrentDecoder, RecurrentEncoder
from narrows.networks.sequence import SequenceDecoder, SequenceEncoder
from narrows.networks.spectrogram import SpectrogramEncoder
from narrows.networks.strided import StridedDecoder, StridedEncoder, WaveNetDecoder
from narrows.networks.transformer import PatchTransformer
from narrows.networks.wavenet import WaveNet
from narrows.networks.whole import GlobalDecoder, GlobalEncoder

__all__ = [
    "AutoregressiveDecoder",
    "AutoregressiveRecurrentDecoder",
    "CausalTransformer",
    "CodeTransformer",
    "ConvDecoder",
    "ConvEncoder",
    "GlobalDecoder",
    "GlobalEncoder",
    "Head",
    "MLPDecoder",
    "MLPEncoder",
    "PatchTransformer",
    "PerFrameDecoder",
    "PerFrameEncoder",
    "RecurrentDecoder",
    "RecurrentEncoder",
    "SequenceDecoder",
    "SequenceEncoder",
    "SpectrogramEncoder",
    "Stem",
    "StridedDecoder",
    "StridedEncoder",
    "WaveNet",
    "WaveNetDecoder",
]
