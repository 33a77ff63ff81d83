"""Record first-person video with its actions from ViZDoom (Wydmuch et al. 2019), by a player that acts at random."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import chdir, closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Literal

import numpy as np
from PIL import Image

from narrows.data.pictures import decode
from narrows.errors import NarrowsError
from narrows.modalities.video.npz import write_npz
from narrows.progress import Progress, hidden

__all__ = ["BUTTONS", "RecordingSettings", "record"]

BUTTONS = {
    "left": "TURN_LEFT",
    "right": "TURN_RIGHT",
    "forward": "MOVE_FORWARD",
    "back": "MOVE_BACKWARD",
    "strafe_left": "MOVE_LEFT",
    "strafe_right": "MOVE_RIGHT",
    "attack": "ATTACK",
    "use": "USE",
}
"""Names of actions, and the button that each holds."""
RESOLUTION = "RES_320X240"
"""The size at which the game draws; frames are scaled from it."""


@dataclass(frozen=True)
class RecordingSettings:
    """Settings of a recording.

    Args:
        scenario: name of a scenario of ViZDoom, or a .cfg file.
        frames: the number of frames.
        size: height and width of a frame; the centre of the screen is cropped to a square.
        actions: the actions, from `BUTTONS`.
        policy: `random` chooses every action equally often; `forward` chooses half of the time the action forward.
        tics: game tics, of 1/35 s, for which an action is held; each gives one frame.
        hold: the most frames for which an action is repeated; the number is drawn from 1 to `hold`.
        episode: the most frames of an episode.
        seed: the seed of the game and of the player.

    Raises:
        NarrowsError: if a number is below 1, or an action is unknown.
    """

    scenario: str = "my_way_home"
    frames: int = 3000
    size: int = 84
    actions: Sequence[str] = ("left", "right", "forward")
    policy: Literal["random", "forward"] = "random"
    tics: int = 4
    hold: int = 8
    episode: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("frames", "size", "tics", "hold", "episode"):
            if getattr(self, name) < 1:
                raise NarrowsError(f"--{name} is {getattr(self, name)}: it must be at least 1")
        for action in self.actions:
            if action not in BUTTONS:
                raise NarrowsError(f"--actions {action}: the actions are {', '.join(BUTTONS)}")
        if self.policy == "forward" and "forward" not in self.actions:
            raise NarrowsError("--policy forward: forward is not among the --actions")


class Player:
    """Chooses actions at random, and repeats each for some frames."""

    def __init__(self, settings: RecordingSettings) -> None:
        self.settings, self.generator = settings, np.random.default_rng(settings.seed)
        self.action = self.left = 0

    def choose(self) -> int:
        """Return the number of the next action."""
        if not self.left:
            settings = self.settings
            self.left = int(self.generator.integers(1, settings.hold + 1))
            self.action = int(self.generator.integers(len(settings.actions)))
            if settings.policy == "forward" and self.generator.random() < 0.5:
                self.action = list(settings.actions).index("forward")
        self.left -= 1
        return self.action


def record(out: Path, settings: RecordingSettings, progress: Progress = hidden) -> Path:
    """Record frames and actions into an npz file, in the layout of `narrows.modalities.video.npz`.

    Raises:
        NarrowsError: if ViZDoom is not installed, the scenario is unknown, or the file does not end in .npz.
    """
    if out.suffix != ".npz":
        raise NarrowsError(f"--out {out}: recordings are written as .npz, so the name must end in .npz")
    vizdoom = _vizdoom()
    frames = np.empty((settings.frames, settings.size, settings.size, 3), np.uint8)
    actions, episode = np.empty(settings.frames, np.int64), np.empty(settings.frames, np.int64)
    player, current, begun = Player(settings), 0, 0
    with TemporaryDirectory() as folder, closing(_started(vizdoom, settings, Path(folder))) as game:
        with progress("record", settings.frames, "frames") as meter:
            for index in range(settings.frames):
                if game.is_episode_finished() or index - begun >= settings.episode:
                    game.new_episode()
                    current, begun = current + 1, index
                screen = Image.fromarray(game.get_state().screen_buffer)
                frames[index] = decode(screen, (3, settings.size, settings.size)).transpose(1, 2, 0)
                actions[index], episode[index] = player.choose(), current
                held = [float(number == actions[index]) for number in range(len(settings.actions))]
                game.make_action(held, settings.tics)
                meter.advance()
        rate = game.get_ticrate() / settings.tics
    write_npz(out, frames, actions, episode, rate, settings.actions)
    return out


def _started(vizdoom: ModuleType, settings: RecordingSettings, folder: Path) -> Any:
    """Return the game, started in a folder that it may write to."""
    game = vizdoom.DoomGame()
    path = Path(settings.scenario).resolve()
    bundled = Path(vizdoom.scenarios_path) / f"{settings.scenario}.cfg"
    if not (path.is_file() or bundled.is_file()):
        known = sorted(file.stem for file in bundled.parent.glob("*.cfg"))
        raise NarrowsError(
            f"--scenario {settings.scenario}: there is no such file; the scenarios of ViZDoom are {', '.join(known)}"
        )
    try:
        game.load_config(str(path if path.is_file() else bundled))
        game.set_available_buttons([getattr(vizdoom.Button, BUTTONS[action]) for action in settings.actions])
        game.set_screen_resolution(getattr(vizdoom.ScreenResolution, RESOLUTION))
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_mode(vizdoom.Mode.PLAYER)
        game.set_window_visible(False)
        game.set_seed(settings.seed)
        with chdir(folder):  # the game writes its own settings into the current folder
            game.init()
    except (vizdoom.FileDoesNotExistException, vizdoom.ViZDoomErrorException, RuntimeError) as error:
        raise NarrowsError(f"--scenario {settings.scenario}: ViZDoom cannot start it: {error}") from error
    return game


def _vizdoom() -> ModuleType:
    try:
        import vizdoom
    except ImportError as error:
        raise NarrowsError(f"`narrows record` needs vizdoom ({error}): pip install 'narrows[video]'") from error
    return vizdoom
