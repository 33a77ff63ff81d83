"""Errors between pictures: mean squared error, PSNR and SSIM (Wang et al. 2004)."""

from __future__ import annotations

from torch import Tensor

__all__ = ["pixel_errors"]

SSIM_WINDOW = 11
"""Side of the SSIM window in pixels; smaller pictures have no SSIM."""


def pixel_errors(x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """Return `mse`, `psnr` (dB) and, for pictures of at least 11x11 pixels, `ssim`, [B] each.

    Args:
        x: pictures [B, C, H, W] in [0, 1].
        y: the pictures to compare with them.
    """
    mse = (y - x).square().flatten(1).mean(1)
    figures = {"mse": mse, "psnr": -10 * mse.clamp_min(1e-10).log10()}
    if min(x.shape[2:]) >= SSIM_WINDOW:
        from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

        figures["ssim"] = structural_similarity_index_measure(y, x, reduction="none", data_range=1.0)
    return figures
