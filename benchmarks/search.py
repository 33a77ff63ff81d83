"""Search for goals of held-out motions, against the best of as many random draws from the prior.

Each goal is the position and heading of the root and the pose, at the last frame of a window of a held-out motion (the
validation and test splits). The cost is in cm and degrees, with equal weights. Candidates per minute are those of the
whole search; beside them stand those of the decoder's forward pass alone, and of drawing codes from the prior alone.

    python -m benchmarks.search RUN [--goals 50] [--decodings 4000] [--rounds 16] [--support 0.2] [--threads 2]
"""

from __future__ import annotations

import argparse
import time
from argparse import Namespace
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.timing import medians
from narrows.commands.source import open_run, open_run_data
from narrows.modalities.motion.dataset import MotionData
from narrows.modalities.motion.goals import Goals, HeadingGoal, MotionBatch, PoseGoal, PositionGoal
from narrows.modalities.motion.motion_search import AT_ONCE, Compared, compare_with_random, decoded, decoded_costs
from narrows.modalities.motion.motions import Motions
from narrows.modalities.motion.proposals import Proposals, proposals_of
from narrows.modalities.motion.search import SearchSettings, search
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.progress import progress
from narrows.sampling import Sampling

NORMAL = 1.96
"""Standard deviations of a 95% interval."""


def held_out_goals(data: MotionData, frames: int, count: int) -> list[Goals]:
    """Return goals taken from random windows of held-out motions."""
    held = Motions.joined([data.validation, data.test])
    long = np.flatnonzero(held.lengths >= frames)
    if not len(long):
        raise SystemExit(f"no held-out motion has {frames} frames")
    generator, form = np.random.default_rng(0), data.scale.format
    goals = []
    for index in generator.choice(long, count):
        begin = int(generator.integers(held.lengths[index] - frames + 1))
        features = held.stored(int(index))[begin : begin + frames].astype(np.float64)
        places, headings = MotionBatch(features[None], form).track
        at = frames - 1
        goals.append(
            Goals(
                [
                    PositionGoal(place=places[0, at], at=at, unit="cm", within=10),
                    HeadingGoal(angle=float(headings[0, at]), at=at, unit="deg", within=10),
                    PoseGoal(pose=features[at], at=at, unit="cm", within=10),
                ]
            )
        )
    return goals


def share_of(wins: int, count: int) -> tuple[float, float]:
    """Return the 95% interval of a share (E. B. Wilson 1927)."""
    share, z = wins / count, NORMAL**2 / count
    middle = (share + z / 2) / (1 + z)
    half = NORMAL / (1 + z) * (share * (1 - share) / count + z / (4 * count)) ** 0.5
    return middle - half, middle + half


def print_costs(found: Sequence[Compared], goals: Sequence[Goals]) -> None:
    """Print the means of both, and how often the search wins."""
    print("| | cost | position cm | heading degrees | pose cm | bits | goals met |")
    print("| :--- |" + " ---: |" * 6)
    for name in ("search", "random"):
        ones = [getattr(one, name) for one in found]
        means = [np.mean([one.misses[key] for one in ones]) for key in ("position", "heading", "pose")]
        met = np.mean([not goal.missed(one.misses) for goal, one in zip(goals, ones, strict=True)])
        cost, bits = (np.mean([getattr(one, key) for one in ones]) for key in ("cost", "bits"))
        print(
            f"| {name} | {cost:.2f} | " + " | ".join(f"{mean:.2f}" for mean in means) + f" | {bits:.1f} | {met:.0%} |"
        )
    gains = np.array([one.random.cost - one.search.cost for one in found])
    error = NORMAL * gains.std(ddof=1) / len(gains) ** 0.5
    wins = int((gains > 0).sum())
    low, high = share_of(wins, len(gains))
    print(
        f"search wins on {wins} of {len(gains)} goals, {wins / len(gains):.0%} (95% interval {low:.0%} to {high:.0%});"
    )
    print(
        f"the cost is lower by {gains.mean():.2f} +- {error:.2f} (95%), {np.mean([one.decodings for one in found]):.0f}"
    )
    print("candidates decoded for a goal by each, in the mean")


def print_speed(model: Autoencoder, proposals: Proposals, goal: Goals, settings: SearchSettings, repeats: int) -> None:
    """Print candidates per minute of a search, of the decoder alone, and of the prior alone."""
    generator = torch.Generator().manual_seed(0)
    batch = proposals.draw(AT_ONCE, generator)
    started = time.perf_counter()
    count = search(proposals, decoded_costs(model, goal), settings).decodings
    whole = time.perf_counter() - started
    actions = [lambda: decoded(model, batch), lambda: proposals.draw(settings.size, generator)]
    decoding, drawing = medians(actions, "cpu", repeats)
    rates = {"search": count / whole, "decoder alone": AT_ONCE / decoding, "prior alone": settings.size / drawing}
    print("candidates per minute: " + ", ".join(f"{name} {60 * rate:,.0f}" for name, rate in rates.items()))


def read_settings() -> Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="a run folder of motion, with a prior if it is discrete")
    parser.add_argument("--goals", type=int, default=50, help="number of goals")
    parser.add_argument("--decodings", type=int, default=SearchSettings.decodings, help="candidates of a goal")
    parser.add_argument("--rounds", type=int, default=SearchSettings.rounds, help="rounds of a search")
    parser.add_argument("--support", type=float, default=SearchSettings.support, help="cost of a bit, in cm")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds")
    return parser.parse_args()


def main() -> None:
    """Compare on all goals, then measure the speed."""
    given = read_settings()
    torch.set_num_threads(given.threads)
    model = load(given.run)
    data = open_run_data(open_run(given.run), model, progress=progress)
    assert isinstance(data, MotionData)
    goals = held_out_goals(data, model.sampled_length, given.goals)
    proposals = proposals_of(model, Sampling())
    settings = SearchSettings(given.decodings, given.rounds, support=given.support)
    print(f"torch {torch.__version__}, {given.threads} CPU threads; {settings}")
    print_speed(model, proposals, goals[0], settings, given.repeats)
    print_costs(compare_with_random(model, goals, settings, progress=progress), goals)


if __name__ == "__main__":
    main()
