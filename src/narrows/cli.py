"""The `narrows` command: parses, calls and prints. Only commands that need PyTorch import it."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from narrows.arguments import add_decoding, add_out, add_run, positive, seed
from narrows.errors import NarrowsError
from narrows.modalities import MODALITIES
from narrows.recipe import find_recipe, recipes

__all__ = ["main"]

CRITERIA = {"bits": "bits_per_dim", "likelihood": "distortion_bits_per_dim"}
OVERRIDES = "any setting of the recipe can be overridden: --training.steps=1000 --model.bottleneck.codebook_size=256"
DATA = "a folder of files, an IDX or Parquet file or a folder of them, hf:NAME, or digits (built in)"

Run = Callable[[argparse.Namespace, list[str]], object]
"""Runs a command with its options and overrides, and returns what to print, if anything."""


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit status: 0; 1 after an error, printed in one line; 130 after an interruption. (A misspelt command exits
        with 2.)
    """
    options, overrides = _parser().parse_known_args(arguments)
    if overrides and not options.overridable:
        options.parser.error(f"unrecognised arguments: {' '.join(overrides)}")
    try:
        with _messages():
            result = _call(options, overrides)
    except NarrowsError as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error.filename or 'file system'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("interrupted; continue a training run with --resume", 130)
    if result is not None:
        _say(result)
    return 0


def _call(options: argparse.Namespace, overrides: list[str]) -> object:
    if not options.trust_code:
        return options.run(options, overrides)
    from narrows.registry import trusted_code

    with trusted_code(True):
        return options.run(options, overrides)


@contextmanager
def _messages() -> Iterator[None]:
    """Show the package's log, such as notes on how data were read, on standard error."""
    logger, handler = logging.getLogger("narrows"), logging.StreamHandler()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _fail(message: str, status: int) -> int:
    bold, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"{bold}narrows:{plain} {message}", file=sys.stderr)
    return status


def _say(message: object) -> None:
    """Print on standard output, in the first process only."""
    from rich.console import Console

    Console(soft_wrap=True, highlight=False, markup=False, quiet=os.environ.get("RANK", "0") != "0").print(message)


def _progress() -> Any:
    from narrows.progress import progress

    return progress


def _recipes(options: argparse.Namespace, overrides: list[str]) -> object:
    if options.recipe:
        from narrows.commands.train import show_recipe

        return show_recipe(options.recipe, options.variant, overrides)
    from rich.markup import escape
    from rich.table import Table

    table = Table("recipe", "variants", "about", box=None, header_style="bold")
    for recipe in recipes():
        table.add_row(recipe.name, " ".join(recipe.variants), escape(recipe.about.strip()))
    return table


def _train(options: argparse.Namespace, overrides: list[str]) -> str:
    from narrows.commands.source import placed
    from narrows.commands.train import train

    recipe = find_recipe(options.recipe)
    if options.strict:
        overrides = [*overrides, "--data.strict=true"]
    if options.on:
        overrides = [*overrides, f"--on={placed(options.on)}"]
    out = options.out or Path("runs") / "-".join(filter(None, [Path(recipe.name).stem, options.variant]))
    run = train(
        recipe,
        out,
        variant=options.variant,
        source=options.data,
        resume=options.resume,
        overrides=overrides,
        progress=_progress(),
    )
    return f"{run.path}: {run.report}"


def _prior(options: argparse.Namespace, overrides: list[str]) -> str:
    from narrows.commands.prior import fit_prior

    run = fit_prior(
        options.folder,
        recipe=options.recipe,
        variant=options.variant,
        source=options.data,
        resume=options.resume,
        overrides=overrides,
        progress=_progress(),
    )
    return f"{run.prior.path}: {run.report}"


def _evaluate(options: argparse.Namespace, overrides: list[str]) -> str:
    from rich.table import Table

    from narrows.commands.measure import evaluate
    from narrows.evaluation.units import unit_of

    done = evaluate(
        options.folder,
        source=options.data,
        split=options.split,
        samples=options.samples,
        limit=options.limit,
        overrides=overrides,
        options=_own(options),
        distances=options.distances,
        progress=_progress(),
    )
    _say(done.measured_on)
    if done.changed is not None:
        _say(f"The data are not those used in training: {done.changed}")
    table = Table("figure", "value", "unit", box=None, header_style="bold")
    table.columns[1].justify = "right"
    for name, value in done.figures.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value), unit_of(name, done.units))
    _say(table)
    if done.distances:
        _say(done.distances)
    return f"written to {done.path}"


def _compare(options: argparse.Namespace, overrides: list[str]) -> Path:
    from narrows.commands.compare import Budget, Comparison, compare

    recipe = find_recipe(options.recipe)
    comparison = Comparison(
        recipe=recipe,
        methods=options.methods or list(recipe.variants),
        source=options.data,
        bits=options.bits,
        budget=Budget.parse(options.budget),
        seeds=options.seeds,
        learning_rates=options.learning_rates,
        criterion=CRITERIA[options.by],
        samples=options.samples,
        limit=options.limit,
        overrides=overrides,
        distances=options.distances,
    )
    out = options.out or Path("runs") / Path(recipe.name).stem
    return compare(comparison, out, resume=options.resume, at_once=options.jobs, progress=_progress())


def _curve(options: argparse.Namespace, overrides: list[str]) -> Path:
    from narrows.commands.curve import Sweep, curve

    recipe = find_recipe(options.recipe)
    sweep = Sweep(
        recipe=recipe,
        variant=options.variant,
        gammas=options.gammas,
        source=options.data,
        on=options.on,
        limit=options.limit,
        overrides=overrides,
    )
    out = options.out or Path("runs") / f"{Path(recipe.name).stem}-curve"
    return curve(sweep, out, resume=options.resume, at_once=options.jobs, progress=_progress())


def _sample(options: argparse.Namespace, _: list[str]) -> Path:
    from narrows.commands.media import sample
    from narrows.decoding import decoding_of
    from narrows.sampling import Sampling

    sampling = Sampling(options.temperature, options.top_k, options.top_p, options.seed)
    return sample(
        options.folder,
        options.n,
        options.out,
        sampling=sampling,
        decoding=decoding_of(options),
        full=options.full,
        options=_own(options),
        progress=_progress(),
    )


def _reconstruct(options: argparse.Namespace, _: list[str]) -> Path:
    from narrows.commands.media import reconstruct
    from narrows.decoding import decoding_of

    return reconstruct(
        options.folder,
        options.files,
        options.out,
        decoding=decoding_of(options),
        options=_own(options),
        progress=_progress(),
        draws=options.draws,
    )


def _interpolate(options: argparse.Namespace, _: list[str]) -> Path:
    from narrows.commands.media import interpolate
    from narrows.decoding import decoding_of

    return interpolate(
        options.folder,
        options.start,
        options.end,
        options.steps,
        options.out,
        decoding=decoding_of(options),
        options=_own(options),
        progress=_progress(),
    )


def _encode(options: argparse.Namespace, _: list[str]) -> str:
    from narrows.commands.media import encode

    codes = encode(options.folder, options.files, options.out)
    return f"{options.out}: {len(options.files)} files as codes {list(codes.shape)}"


def _decode(options: argparse.Namespace, _: list[str]) -> str:
    from narrows.commands.media import decode
    from narrows.decoding import decoding_of

    written = decode(options.folder, options.codes, options.out, decoding=decoding_of(options), progress=_progress())
    return "\n".join(map(str, written))


def _own(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that only one kind of data has."""
    return {name: getattr(options, name) for name in options.own}


def gammas(text: str) -> list[float]:
    values = [float(part) for part in text.split(",")]
    if not all(0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"{text}: every squared error must be positive and finite")
    return values


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="narrows", description="Variational and discrete autoencoders with learned priors; every figure in bits."
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    own = [import_module(f"narrows.modalities.{name}.options") for name in MODALITIES]

    def command(name: str, run: Run, help: str, overridable: bool = False) -> argparse.ArgumentParser:
        epilog = OVERRIDES if overridable else None
        added = subparsers.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", epilog=epilog)
        added.set_defaults(run=run, overridable=overridable)
        return added

    _add_training(command)
    _add_comparisons(command)
    _add_media(command)
    for part in own:
        part.add_commands(subparsers)
    for name, added in subparsers.choices.items():
        common = {action.dest for action in added._actions}
        for part in own:
            part.add_options(name, added)
        particular = {action.dest for action in added._actions} - common
        added.set_defaults(parser=added, own=sorted(particular), overridable=added.get_default("overridable") or False)
        added.add_argument(
            "--trust-code",
            action="store_true",
            help="let recipes and models name classes outside narrows, which can run any code",
        )
    return parser


def _add_training(command: Callable[..., argparse.ArgumentParser]) -> None:
    shown = command("recipes", _recipes, "list the recipes, or print one with all its settings", overridable=True)
    shown.add_argument("recipe", nargs="?", metavar="RECIPE", help="print this recipe")
    shown.add_argument("--variant", help="variant of the recipe")

    train = command("train", _train, "train a model", overridable=True)
    train.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a YAML file")
    train.add_argument("--data", metavar="SOURCE", help=DATA)
    train.add_argument("--variant", help="variant of the recipe, such as cpu (minutes on two cores)")
    add_out(train, "run folder (runs/RECIPE-VARIANT)")
    train.add_argument(
        "--on", metavar="RUN", help="run (or hub id) of the first stage, for recipes like hvae-second and vqvae-global"
    )
    train.add_argument("--strict", action="store_true", help="stop at the first data file that cannot be read")
    train.add_argument("--resume", action="store_true", help="continue the run with its own recipe.yaml")

    prior = command("prior", _prior, "fit a prior to the codes of a trained model", overridable=True)
    add_run(prior)
    prior.add_argument("--recipe", help="name of a recipe, or a YAML file (default for the kind of data)")
    prior.add_argument("--variant", help="variant of the recipe")
    prior.add_argument("--data", metavar="SOURCE", help=f"{DATA} (the run's own)")
    prior.add_argument("--resume", action="store_true", help="continue with the prior's own recipe.yaml")

    evaluate = command(
        "evaluate", _evaluate, "measure bits/dim, distortion and code use on held-out data", overridable=True
    )
    add_run(evaluate)
    evaluate.add_argument("--data", metavar="SOURCE", help=f"{DATA} (the run's own)")
    evaluate.add_argument(
        "--split",
        metavar="NAME",
        help="train, validation, test or all, or another split of the kind of data (test for the run's own data, all "
        "for a SOURCE)",
    )
    evaluate.add_argument(
        "--samples", type=positive, help="importance samples S of the bound (default for the kind of data)"
    )
    evaluate.add_argument("--limit", type=positive, help="measure only a random subset of LIMIT examples")
    _add_distances(evaluate)


def _add_distances(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--distances",
        action="store_true",
        help="also measure Fréchet distances of reconstructions and samples, in features of a classifier of these data",
    )


def _add_comparisons(command: Callable[..., argparse.ArgumentParser]) -> None:
    compare = command("compare", _compare, "train several methods on the same data, bits and budget", overridable=True)
    compare.add_argument(
        "methods", nargs="*", metavar="METHOD", help="variants of the recipe, such as vqvae gumbel daps (all)"
    )
    compare.add_argument(
        "--recipe", default="compare-images", help="recipe or YAML file that the methods share (compare-images)"
    )
    compare.add_argument("--data", metavar="SOURCE", help=DATA)
    compare.add_argument("--bits", type=positive, metavar="N", help="bits per example of the codes (the recipe's)")
    compare.add_argument("--seeds", type=positive, default=3, help="seeds per method, at its best learning rate (3)")
    compare.add_argument(
        "--budget", default="2500", help="budget of every run: steps, or minutes at the method's speed, e.g. 10m (2500)"
    )
    compare.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        default=[5e-4, 1e-3, 2e-3],
        metavar="RATE",
        help="learning rates to try for each method (5e-4 1e-3 2e-3)",
    )
    compare.add_argument(
        "--by", choices=list(CRITERIA), default="bits", help="criterion on the validation split to choose it (bits)"
    )
    compare.add_argument("--samples", type=positive, default=16, help="importance samples S of the bound (16)")
    compare.add_argument("--limit", type=positive, help="test only on a random subset of LIMIT examples")
    _add_distances(compare)
    compare.add_argument("--jobs", type=positive, default=1, help="number of parallel training runs (1)")
    add_out(compare, "folder of the comparison (runs/RECIPE)")
    compare.add_argument("--resume", action="store_true", help="continue the comparison; methods may be added")

    curve = command(
        "curve", _curve, "train a recipe at several distortions and plot rate against distortion", overridable=True
    )
    curve.add_argument("recipe", metavar="RECIPE", help="name of a recipe, or a YAML file")
    curve.add_argument(
        "--gammas",
        type=gammas,
        default=[64.0, 32.0, 8.0, 2.0, 0.5],
        metavar="G,G,...",
        help="target squared errors, summed over the dimensions of an example (64,32,8,2,0.5)",
    )
    curve.add_argument("--data", metavar="SOURCE", help=DATA)
    curve.add_argument("--variant", help="variant of the recipe")
    curve.add_argument("--on", metavar="RUN", help="run (or hub id) of the first stage, for recipes like hvae-second")
    curve.add_argument("--limit", type=positive, help="test only on a random subset of LIMIT examples")
    curve.add_argument("--jobs", type=positive, default=1, help="number of parallel training runs (1)")
    add_out(curve, "folder of the curve (runs/RECIPE-curve)")
    curve.add_argument("--resume", action="store_true", help="continue the curve; gammas may be added")


def _add_media(command: Callable[..., argparse.ArgumentParser]) -> None:
    def add_class(parser: argparse.ArgumentParser, default: str) -> None:
        parser.add_argument(
            "--class",
            dest="label",
            metavar="CLASS",
            help=f"name or number of a class, such as a speaker ({default})",
        )

    sample = command("sample", _sample, "draw new examples from the prior")
    add_run(sample)
    sample.add_argument("-n", type=positive, default=16, help="number of examples (16)")
    add_class(sample, "all in turn")
    sample.add_argument("--temperature", type=float, default=1.0, help="below 1, codes vary less (1)")
    sample.add_argument("--top-k", type=positive, help="only the k most probable values of each code")
    sample.add_argument(
        "--top-p", type=float, help="only the most probable values of each code that together reach this probability"
    )
    sample.add_argument("--seed", type=seed, default=0, help="random seed (0)")
    sample.add_argument("--full", action="store_true", help="also draw the data, instead of showing their means")
    add_out(sample, "file or folder to write (RUN/samples)")
    add_decoding(sample)

    reconstruct = command("reconstruct", _reconstruct, "show examples next to their reconstructions")
    add_run(reconstruct)
    reconstruct.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="the examples (some of the run's test split)"
    )
    add_class(reconstruct, "the example's own")
    reconstruct.add_argument("--draws", type=positive, default=1, help="draws of each, by a decoder that draws (1)")
    add_out(reconstruct, "file or folder to write (RUN/reconstructions)")
    add_decoding(reconstruct)

    interpolate = command("interpolate", _interpolate, "interpolate between two examples in the latent space")
    add_run(interpolate)
    interpolate.add_argument("start", type=Path, metavar="START", help="file of the first example")
    interpolate.add_argument("end", type=Path, metavar="END", help="file of the last example")
    interpolate.add_argument("--steps", type=positive, default=9, help="number of examples, including the ends (9)")
    add_class(interpolate, "the only one")
    add_out(interpolate, "file or folder to write (RUN/interpolation)")
    add_decoding(interpolate)

    encode = command("encode", _encode, "turn files into codes")
    add_run(encode)
    encode.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the files")
    add_out(encode, "file of codes to write, .npz", required=True)

    decode = command("decode", _decode, "turn codes back into files")
    add_run(decode)
    decode.add_argument("codes", type=Path, metavar="CODES", help="file written by `narrows encode`")
    add_class(decode, "the only one")
    add_out(decode, "folder for the files", required=True)
    add_decoding(decode)
