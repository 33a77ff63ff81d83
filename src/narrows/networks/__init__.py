"""Plain modules, without losses."""

from narrows.networks.conv import ConvDecoder, ConvEncoder

__all__ = ["ConvDecoder", "ConvEncoder"]
