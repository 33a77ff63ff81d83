"""The very deep VAE with 48 layers: a training step compared with the plain one, DistortionTarget, checkpointing.

A step is forward, loss, backward and Adam on a few 32x32 images in float32. The plain model is that of
`benchmarks.vdvae`; both are measured with channels last, which is our layout, and in PyTorch's default layout. The
limit is its convolutions alone: each runs forward and backward on the inputs that it has in the model, one after
another. Times are medians of interleaved repeats.

The cost of holding a distortion is that of `DistortionTarget` relative to `Pathwise` on the same model, steps of the
two alternating; and of the estimators' forward and backward alone, starting from the likelihood's parameters.

Memory is the peak of the first step of a fresh process beyond the weights: activations, gradients and Adam's moments.
The gradients with and without checkpointing must be equal.

    python -m benchmarks.hierarchy [--device cuda] [--threads 2] [--repeats 7]
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import quantiles

import torch
from torch import Tensor, nn

from benchmarks.memory import peak_mib
from benchmarks.timing import begin, head, medians, seconds
from benchmarks.vdvae import VeryDeepVAE
from narrows.bottlenecks.hierarchy import Hierarchy
from narrows.data import Batch
from narrows.estimators import DistortionTarget, Estimator, Evidence, Pathwise
from narrows.likelihoods import GaussianCalibrated
from narrows.models import Autoencoder
from narrows.networks.hierarchy import Head, Stem

WIDTH, LATENTS, MIDDLE = 128, 16, 32
LAYERS = {1: 2, 4: 4, 8: 10, 16: 16, 32: 16}
BATCH, GAMMA = 4, 8.0
LAYOUTS = {", channels last": torch.channels_last, ", contiguous": torch.contiguous_format}
PAIRS, ALONE = 8, 40
"""Number of pairs of steps, and of runs of the estimators alone, per repeat: the differences are small."""

STEPS = ["model", "parameters", "step ms", "step / ours", "convolutions ms", "step / convolutions"]
CONTROL = ["Pathwise ms", "DistortionTarget ms", "difference", "its quartiles"]
CONTROL += ["Pathwise alone ms", "DistortionTarget alone ms", "difference / step"]
CHECKPOINTING = ["stored ms", "checkpointed ms", "checkpointed / stored"]
CHECKPOINTING += ["stored peak MiB", "checkpointed peak MiB", "checkpointed / stored"]

Action = Callable[[], object]


def ours(device: str, layers: dict[int, int] = LAYERS, checkpointing: bool = False) -> Autoencoder:
    """Return our model of images as large as the finest resolution of `layers`."""
    size = max(layers)
    bottleneck = Hierarchy(WIDTH, LATENTS, MIDDLE, layers, checkpointing=checkpointing)
    return Autoencoder((3, size, size), Stem, bottleneck, Head, GaussianCalibrated).to(device)


def images(shape: tuple[int, ...], device: str) -> Tensor:
    """Return random images [`BATCH`, *shape] of 256 levels in [0, 1]."""
    return torch.randint(256, (BATCH, *shape), device=device) / 255


def loss(model: Autoencoder, estimator: Estimator, x: Tensor) -> Tensor:
    """Return the estimator's loss of images x in nats per dimension."""
    _, evidence = model.evidence(Batch(x), estimator.draw)
    return estimator(evidence).mean() / model.dimensions


def step(model: nn.Module, objective: Callable[[], Tensor]) -> Action:
    """Return a training step of `objective`, as a function."""
    optimizer = torch.optim.Adam(model.parameters(), 2e-4)

    def run() -> None:
        optimizer.zero_grad()
        objective().backward()
        optimizer.step()

    return run


def convolutions(model: VeryDeepVAE, x: Tensor) -> Action:
    """Return every convolution of the model for images x, forward and backward, as a function."""
    calls: list[tuple[nn.Module, Tensor, Tensor]] = []

    def record(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        read = arguments[0].detach().requires_grad_(arguments[0].requires_grad)
        calls.append((layer, read, torch.randn_like(output)))

    hooks = [layer.register_forward_hook(record) for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    model(x)
    for hook in hooks:
        hook.remove()

    def run() -> None:
        for layer, read, gradient in calls:
            sources = [tensor for tensor in (read, *layer.parameters()) if tensor.requires_grad]
            torch.autograd.grad(layer(read), sources, gradient)

    return run


def alone(estimator: Estimator, device: str) -> Action:
    """Return the estimator's forward and backward from the likelihood's parameters and the rate, as a function."""
    likelihood = GaussianCalibrated(3).to(device)
    x = images((3, max(LAYERS), max(LAYERS)), device)
    out, rate = torch.zeros_like(x).requires_grad_(), torch.rand(BATCH, device=device).requires_grad_()
    observation = likelihood(out)
    latent = torch.zeros(1, BATCH, device=device)
    evidence = Evidence(observation.log_prob(x).view(1, BATCH), latent, latent, rate, x, observation)
    return lambda: torch.autograd.grad(estimator(evidence).mean(), [out, rate], retain_graph=True)


def compare_steps(settings: Namespace) -> None:
    """Print the times of a step of ours and of the plain model, and of the convolutions alone."""
    device, estimator = settings.device, Pathwise()
    models = [ours(device) for _ in LAYOUTS]
    plain = [VeryDeepVAE(WIDTH, LATENTS, MIDDLE, LAYERS).to(device) for _ in LAYOUTS]
    for pair in (models, plain):
        for model, layout in zip(pair, LAYOUTS.values(), strict=True):
            model.to(memory_format=layout)  # type: ignore[call-overload]
    size, other = (sum(parameter.numel() for parameter in each[0].parameters()) for each in (models, plain))
    if size != other:
        raise SystemExit(f"the models differ in size: {size} parameters of ours, {other} of the plain one")

    x = images(models[0].shape, device)
    y = 2 * x - 1
    dimensions = models[0].dimensions
    actions = [
        *(step(model, partial(loss, model, estimator, x)) for model in models),
        *(step(model, partial(lambda model: model(y).mean() / dimensions, model)) for model in plain),
        *(convolutions(model, y) for model in plain),
    ]
    times = [1e3 * median for median in medians(actions, device, settings.repeats)]
    steps, limits = times[:4], times[4:] * 2
    head(settings, STEPS, f"One training step of {sum(LAYERS.values())} layers on {BATCH} images")
    names = [name + layout for name in ("ours", "plain") for layout in LAYOUTS]
    for name, taken, bare in zip(names, steps, limits, strict=True):
        print(f"| {name} | {size} | {taken:.0f} | {taken / steps[0]:.2f} | {bare:.0f} | {taken / bare:.2f} |")
    print(flush=True)


def compare_estimators(settings: Namespace) -> None:
    """Print the cost of holding a distortion."""
    device = settings.device
    estimators: list[Estimator] = [Pathwise(), DistortionTarget(GAMMA, Pathwise()).to(device)]
    model = ours(device)
    x = images(model.shape, device)
    actions = [step(model, partial(loss, model, estimator, x)) for estimator in estimators]
    for action in actions:
        action()
    pairs = [[seconds(action, device) for action in actions] for _ in range(PAIRS * settings.repeats)]
    (_, free, _), (_, held, _) = (quantiles(column, n=4) for column in zip(*pairs, strict=True))
    low, middle, high = quantiles([second / first - 1 for first, second in pairs], n=4)
    own = medians([alone(estimator, device) for estimator in estimators], device, ALONE * settings.repeats)

    head(settings, CONTROL, f"{len(pairs)} pairs of steps")
    print(
        f"| {1e3 * free:.0f} | {1e3 * held:.0f} | {middle:+.2%} | {low:+.2%} to {high:+.2%} "
        f"| {1e3 * own[0]:.3f} | {1e3 * own[1]:.3f} | {(own[1] - own[0]) / free:+.3%} |\n",
        flush=True,
    )


def compare_checkpointing(settings: Namespace) -> None:
    """Print the cost and the savings of recomputing the blocks."""
    device, estimator = settings.device, Pathwise()
    models = [ours(device), ours(device, checkpointing=True)]
    x = images(models[0].shape, device)
    steps = [step(model, partial(loss, model, estimator, x)) for model in models]
    stored, again = medians(steps, device, settings.repeats)

    models[1].load_state_dict(models[0].state_dict())
    gradients = []
    for model in models:
        torch.manual_seed(1)
        with torch.backends.cudnn.flags(enabled=True, deterministic=True):
            gradients.append(torch.autograd.grad(loss(model, estimator, x), list(model.parameters())))
    if not all(torch.equal(first, second) for first, second in zip(*gradients, strict=True)):
        raise SystemExit("the gradients with and without checkpointing differ")

    memory = [fresh_peak_mib(checkpointing, device, settings.threads) for checkpointing in (False, True)]
    head(settings, CHECKPOINTING, "Equal gradients")
    print(
        f"| {1e3 * stored:.0f} | {1e3 * again:.0f} | {again / stored:.2f} "
        f"| {memory[0]:.0f} | {memory[1]:.0f} | {memory[1] / memory[0]:.2f} |"
    )


def step_peak_mib(checkpointing: bool, device: str, threads: int) -> float:
    """Return the peak memory of a first training step beyond the weights, in MiB; call it in a fresh process."""
    torch.set_num_threads(threads)

    def first_step(layers: dict[int, int]) -> Action:
        model, estimator = ours(device, layers, checkpointing), Pathwise()
        x = images(model.shape, device)
        return step(model, partial(loss, model, estimator, x))

    first_step({1: 1, 4: 1})()  # libraries set up their own memory at the first call
    run = first_step(LAYERS)
    return peak_mib(run, device)


def fresh_peak_mib(checkpointing: bool, device: str, threads: int) -> float:
    """Return `step_peak_mib` measured in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(step_peak_mib, checkpointing, device, threads).result()


def main() -> None:
    """Measure and print the three tables."""
    settings = begin(__doc__)
    torch.manual_seed(0)
    compare_steps(settings)
    compare_estimators(settings)
    compare_checkpointing(settings)


if __name__ == "__main__":
    main()
