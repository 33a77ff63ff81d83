"""Films of robots side by side, rendered by MuJoCo."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from narrows.data.films import require_av, save_gif, save_mp4
from narrows.modalities.motion.body import Body, load_mujoco
from narrows.modalities.motion.film import SIDE, titles
from narrows.modalities.motion.scene import shown_stride

__all__ = ["can_render", "write_rendered_film"]

COLOURS = 128
DISTANCE, ELEVATION, AZIMUTH = 2.8, -15.0, 120.0
"""Of the camera from the root, in metres and degrees; its height is that of the root at the start."""

logger = logging.getLogger(__name__)


@cache
def can_render() -> bool:
    """Return whether MuJoCo is installed and can draw here, and log why it cannot draw."""
    if find_spec("mujoco") is None:
        return False
    try:
        _draw_nothing()
    except Exception as error:  # drivers of graphics fail in many ways
        logger.warning("films show stick figures, since MuJoCo cannot draw here: %s", error)
        return False
    return True


def _draw_nothing() -> None:
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_string("<mujoco/>")
    with mujoco.Renderer(model, 8, 8) as renderer:
        renderer.update_scene(mujoco.MjData(model))
        renderer.render()


def write_rendered_film(path: Path, body: Body, runs: Mapping[str, np.ndarray], rate: float) -> None:
    """Write robots side by side as a GIF or MP4 film, by the suffix of the path, where `can_render`.

    Args:
        path: the file.
        body: the robot.
        runs: its states in MuJoCo's order, [T, ...], by name; a shorter run stays in its last state.
        rate: states per second; the film has at most 30 frames per second.

    Raises:
        NarrowsError: if PyAV is needed and not installed.
        RuntimeError: if the driver of the graphics fails.
    """
    stride = shown_stride(rate)
    rate = rate / stride
    frames = _frames(body, {name: states[::stride] for name, states in runs.items()})
    if path.suffix == ".gif":
        save_gif(path, frames, rate, COLOURS)
    else:
        require_av("motion")
        save_mp4(path, frames, rate)


def _frames(body: Body, runs: Mapping[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Yield the pictures of all runs with their names, uint8 [H, W, 3]."""
    mujoco, head = load_mujoco(), titles(list(runs))
    data, camera = mujoco.MjData(body.model), mujoco.MjvCamera()
    camera.distance, camera.elevation, camera.azimuth = DISTANCE, ELEVATION, AZIMUTH
    with mujoco.Renderer(body.model, SIDE, SIDE) as renderer:
        for effect in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            renderer.scene.flags[effect] = False  # slow without a graphics card
        for frame in range(max(map(len, runs.values()))):
            row = []
            for states in runs.values():
                data.qpos[:] = states[min(frame, len(states) - 1)]
                mujoco.mj_forward(body.model, data)
                camera.lookat[:] = [*data.qpos[:2], states[0][2]]
                renderer.update_scene(data, camera)
                row.append(renderer.render())
            yield np.concatenate([head, np.concatenate(row, 1)])
