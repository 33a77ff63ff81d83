"""The `narrows` command: parse, call, print."""

from __future__ import annotations

import argparse
import logging
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from narrows import commands
from narrows.config import find_recipe, recipes
from narrows.errors import NarrowsError
from narrows.registry import trusted_code

__all__ = ["main"]

CRITERIA = {"bits": "bits_per_dim", "likelihood": "distortion_bits_per_dim"}
OVERRIDES = "any setting of the recipe can be overridden: --training.steps=1000 --model.bottleneck.codebook_size=256"


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    Returns:
        the exit status: 0; 1 after an error, told in a line; 130 after an interruption. (A misspelt command exits: 2.)
    """
    options, overrides = _parser().parse_known_args(arguments)
    if overrides and not options.overridable:
        options.parser.error(f"unrecognised arguments: {' '.join(overrides)}")
    try:
        with trusted_code(options.trust_code), _messages():
            options.run(options, overrides)
    except NarrowsError as error:
        return _fail(str(error), 1)
    except OSError as error:
        return _fail(f"{error.filename or 'file system'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _fail("interrupted; continue a training run with --resume", 130)
    return 0


@contextmanager
def _messages() -> Iterator[None]:
    """Show what the package logs, such as how data were read, on standard error."""
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
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]narrows:[/] {escape(message)}")
    return status


def _say(message: object) -> None:
    """Print on standard output; of several processes, the first alone."""
    Console(soft_wrap=True, highlight=False, quiet=os.environ.get("RANK", "0") != "0").print(message)


def _recipes(options: argparse.Namespace, overrides: list[str]) -> None:
    if options.recipe:
        _say(escape(commands.show_recipe(options.recipe, options.variant, overrides)))
        return
    table = Table("recipe", "variants", "about", box=None, header_style="bold")
    for recipe in recipes():
        table.add_row(recipe.name, " ".join(recipe.variants), escape(recipe.about.strip()))
    _say(table)


def _train(options: argparse.Namespace, overrides: list[str]) -> None:
    recipe = find_recipe(options.recipe)
    if options.strict:
        overrides = [*overrides, "--data.strict=true"]
    if options.on:
        overrides = [*overrides, f"--on={commands.placed(options.on)}"]
    name = "-".join(filter(None, [Path(recipe.name).stem, options.variant]))
    run = commands.train(
        recipe, options.variant, options.data, options.out or Path("runs") / name, options.resume, overrides
    )
    _say(f"[bold]{run.path}[/]: {run.report}")


def _prior(options: argparse.Namespace, overrides: list[str]) -> None:
    run = commands.fit_prior(options.folder, options.recipe, options.variant, options.data, options.resume, overrides)
    _say(f"[bold]{run.prior.path}[/]: {run.report}")


def _evaluate(options: argparse.Namespace, overrides: list[str]) -> None:
    done = commands.evaluate(
        options.folder,
        options.data,
        options.split,
        options.samples,
        options.limit,
        options.phonemes,
        options.reconstruct,
        overrides,
    )
    _say(f"[bold]{escape(done.measured_on)}[/]")
    if done.changed is not None:
        _say(f"[bold yellow]The data are not those of the training:[/] {escape(done.changed)}")
    table = Table("figure", "value", box=None, header_style="bold")
    table.columns[1].justify = "right"
    for name, value in done.figures.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    _say(table)
    _say(f"written to {escape(str(done.path))}")


def _compare(options: argparse.Namespace, overrides: list[str]) -> None:
    recipe = find_recipe(options.recipe)
    comparison = commands.Comparison(
        recipe,
        options.methods or list(recipe.variants),
        options.data,
        options.bits,
        commands.Budget.parse(options.budget),
        options.seeds,
        options.learning_rates,
        CRITERIA[options.by],
        options.samples,
        options.limit,
        overrides,
    )
    out = options.out or Path("runs") / Path(recipe.name).stem
    _say(str(commands.compare(comparison, out, options.resume, options.jobs)))


def _curve(options: argparse.Namespace, overrides: list[str]) -> None:
    recipe = find_recipe(options.recipe)
    sweep = commands.Sweep(recipe, options.variant, options.gammas, options.data, options.on, options.limit, overrides)
    out = options.out or Path("runs") / f"{Path(recipe.name).stem}-curve"
    _say(str(commands.curve(sweep, out, options.resume, options.jobs)))


def _sample(options: argparse.Namespace, _: list[str]) -> None:
    shown = commands.sample(
        options.folder,
        options.n,
        options.label,
        options.temperature,
        options.top_k,
        options.top_p,
        options.seed,
        options.full,
        options.scale,
        options.out,
    )
    _say(str(shown))


def _reconstruct(options: argparse.Namespace, _: list[str]) -> None:
    voice = options.speaker, options.temperature, options.seed
    _say(str(commands.reconstruct(options.folder, options.files, options.scale, *voice, options.out)))


def _convert_voice(options: argparse.Namespace, _: list[str]) -> None:
    commands.convert_voice(options.folder, options.file, options.to, options.temperature, options.seed, options.out)
    _say(str(options.out))


def _interpolate(options: argparse.Namespace, _: list[str]) -> None:
    ends = options.start, options.end
    _say(str(commands.interpolate(options.folder, *ends, options.steps, options.scale or 1, options.out)))


def _encode(options: argparse.Namespace, _: list[str]) -> None:
    codes = commands.encode(options.folder, options.files, options.out)
    _say(f"{options.out}: {len(options.files)} files as codes {list(codes.shape)}")


def _decode(options: argparse.Namespace, _: list[str]) -> None:
    voice = options.speaker, options.temperature, options.seed
    for file in commands.decode(options.folder, options.codes, *voice, options.out):
        _say(str(file))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not at least 1")
    return value


def gammas(text: str) -> list[float]:
    values = [float(part) for part in text.split(",")]
    if not all(0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"{text}: every squared error must be above 0 and finite")
    return values


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="narrows", description="Variational and discrete autoencoders with learned priors; every figure in bits."
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace, list[str]], None], help: str, overridable: bool = False
    ) -> argparse.ArgumentParser:
        epilog = OVERRIDES if overridable else None
        added = subparsers.add_parser(name, help=help, description=help[0].upper() + help[1:] + ".", epilog=epilog)
        added.set_defaults(run=run, overridable=overridable, parser=added)
        added.add_argument(
            "--trust-code",
            action="store_true",
            help="let recipes and models name classes that are not narrows' own: they can run any code",
        )
        return added

    def folder(added: argparse.ArgumentParser) -> None:
        added.add_argument("folder", metavar="RUN", help="a run folder, or the id of one on the Hugging Face hub")

    def out(added: argparse.ArgumentParser, help: str, required: bool = False) -> None:
        added.add_argument("-o", "--out", type=Path, metavar="PATH", required=required, help=help)

    def picture(added: argparse.ArgumentParser, name: str, of_sound: str = "") -> None:
        added.add_argument("--scale", type=_positive, help="of images: how often it is magnified (1)")
        out(added, f"a PNG (RUN/{name}.png)" + (f"; of sound, {of_sound} (RUN/{name})" if of_sound else ""))

    def voice(added: argparse.ArgumentParser) -> None:
        added.add_argument("--temperature", type=float, help="of sound: below 1, less noise and less life (1)")
        added.add_argument("--seed", type=int, help="of sound: of the samples that are drawn (0)")

    def speaker(added: argparse.ArgumentParser) -> None:
        added.add_argument("--speaker", metavar="NAME", help="of sound: who speaks, of those the model knows")
        voice(added)

    data_help = (
        "a folder of images or of sound, an IDX or Parquet file or a folder of them, hf:NAME, or digits (built in)"
    )

    recipes_command = command(
        "recipes", _recipes, "list the recipes, or print one with all its settings", overridable=True
    )
    recipes_command.add_argument("recipe", nargs="?", metavar="RECIPE", help="print this one")
    recipes_command.add_argument("--variant", help="a variant of the recipe")

    train = command("train", _train, "train a model", overridable=True)
    train.add_argument("recipe", metavar="RECIPE", help="the name of a recipe, or a YAML file")
    train.add_argument("--data", metavar="SOURCE", help=data_help)
    train.add_argument("--variant", help="a variant of the recipe, such as cpu: minutes on two cores")
    out(train, "the run folder (runs/RECIPE-VARIANT)")
    train.add_argument("--on", metavar="RUN", help="the first stage, of a recipe such as hvae-second: a run, or hub id")
    train.add_argument("--strict", action="store_true", help="stop at the first file of the data that cannot be read")
    train.add_argument("--resume", action="store_true", help="continue the run with its own recipe.yaml")

    prior = command("prior", _prior, "fit a prior to the codes of a trained model", overridable=True)
    folder(prior)
    prior.add_argument("--recipe", help="the name of a recipe, or a YAML file (pixelcnn; of sound, wavenet)")
    prior.add_argument("--variant", help="a variant of the recipe")
    prior.add_argument("--data", metavar="SOURCE", help=f"{data_help} (the run's own)")
    prior.add_argument("--resume", action="store_true", help="continue with the prior's own recipe.yaml")

    compare = command(
        "compare",
        _compare,
        "train several methods on the same data, bits and budget",
        overridable=True,
    )
    compare.add_argument(
        "methods", nargs="*", metavar="METHOD", help="variants of the recipe, such as vqvae gumbel daps (all of them)"
    )
    compare.add_argument(
        "--recipe", default="compare-images", help="what the methods share: a recipe, or a YAML file (compare-images)"
    )
    compare.add_argument("--data", metavar="SOURCE", help=data_help)
    compare.add_argument("--bits", type=_positive, metavar="N", help="bits of an example's codes (the recipe's)")
    compare.add_argument("--seeds", type=_positive, default=3, help="of each method, at its learning rate (3)")
    compare.add_argument(
        "--budget", default="2500", help="of every training run: steps, or minutes at the method's pace: 10m (2500)"
    )
    compare.add_argument(
        "--learning-rates",
        type=float,
        nargs="+",
        default=[5e-4, 1e-3, 2e-3],
        metavar="RATE",
        help="tried once for each method (5e-4 1e-3 2e-3)",
    )
    compare.add_argument(
        "--by", choices=list(CRITERIA), default="bits", help="what chooses it on the validation split (bits)"
    )
    compare.add_argument("--samples", type=_positive, default=16, help="S of the importance-weighted bound (16)")
    compare.add_argument("--limit", type=_positive, help="test on the first LIMIT examples only")
    compare.add_argument("--jobs", type=_positive, default=1, help="training runs at a time, sharing the cores (1)")
    out(compare, "the folder of the comparison (runs/RECIPE)")
    compare.add_argument("--resume", action="store_true", help="continue what the folder holds; methods may be added")

    curve = command(
        "curve", _curve, "train a recipe at several distortions, and draw rate against them", overridable=True
    )
    curve.add_argument("recipe", metavar="RECIPE", help="the name of a recipe, or a YAML file")
    curve.add_argument(
        "--gammas",
        type=gammas,
        default=[64.0, 32.0, 8.0, 2.0, 0.5],
        metavar="G,G,...",
        help="the squared errors to hold, summed over the pixels of an image (64,32,8,2,0.5)",
    )
    curve.add_argument("--data", metavar="SOURCE", help=data_help)
    curve.add_argument("--variant", help="a variant of the recipe")
    curve.add_argument("--on", metavar="RUN", help="the first stage, of a recipe such as hvae-second: a run, or hub id")
    curve.add_argument("--limit", type=_positive, help="test on the first LIMIT examples only")
    curve.add_argument("--jobs", type=_positive, default=1, help="training runs at a time, sharing the cores (1)")
    out(curve, "the folder of the curve (runs/RECIPE-curve)")
    curve.add_argument("--resume", action="store_true", help="continue what the folder holds; gammas may be added")

    sample = command("sample", _sample, "draw new images, or sounds, from the prior")
    folder(sample)
    sample.add_argument("-n", type=_positive, default=16, help="how many (16)")
    sample.add_argument(
        "--class", dest="label", metavar="CLASS", help="the name or number of a class, or a speaker (all in turn)"
    )
    sample.add_argument("--temperature", type=float, default=1.0, help="below 1: more probable, less varied (1)")
    sample.add_argument("--top-k", type=_positive, help="only the k most probable values of each code")
    sample.add_argument(
        "--top-p", type=float, help="only the most probable values that together reach this probability"
    )
    sample.add_argument("--seed", type=int, default=0, help="of the draws (0)")
    sample.add_argument("--full", action="store_true", help="draw the pixels too, instead of showing their means")
    picture(sample, "samples", "a folder")

    reconstruct = command(
        "reconstruct", _reconstruct, "show what a model makes of images, or of sounds, by way of their codes"
    )
    folder(reconstruct)
    reconstruct.add_argument(
        "files", nargs="*", type=Path, metavar="FILE", help="image or sound files (some of the run's test split)"
    )
    speaker(reconstruct)
    picture(reconstruct, "reconstructions", "a folder")

    convert_voice = command("convert-voice", _convert_voice, "say what a sound file says in another speaker's voice")
    folder(convert_voice)
    convert_voice.add_argument("file", type=Path, metavar="IN", help="a sound file, of any rate and length")
    convert_voice.add_argument("--to", required=True, metavar="SPEAKER", help="a speaker that the model was trained on")
    voice(convert_voice)
    out(convert_voice, "the file to write, .wav", required=True)

    encode = command("encode", _encode, "turn image or sound files into codes")
    folder(encode)
    encode.add_argument("files", nargs="+", type=Path, metavar="FILE", help="image or sound files")
    out(encode, "the file of codes, .npz", required=True)

    decode = command("decode", _decode, "turn codes back into image or sound files")
    folder(decode)
    decode.add_argument("codes", type=Path, metavar="CODES", help="a file that `narrows encode` wrote")
    speaker(decode)
    out(decode, "a folder for the PNG or WAV files", required=True)

    interpolate = command(
        "interpolate", _interpolate, "show the way from one image to another through the latent space"
    )
    folder(interpolate)
    interpolate.add_argument("start", type=Path, metavar="START", help="an image file")
    interpolate.add_argument("end", type=Path, metavar="END", help="an image file")
    interpolate.add_argument("--steps", type=_positive, default=9, help="how many images, the ends included (9)")
    picture(interpolate, "interpolation")

    evaluate = command(
        "evaluate", _evaluate, "measure bits/dim, distortion and code use on held-out data", overridable=True
    )
    folder(evaluate)
    evaluate.add_argument("--data", metavar="SOURCE", help=f"{data_help} (the run's own)")
    evaluate.add_argument(
        "--split",
        choices=["train", "validation", "test", "unheard", "all"],
        help="unheard: sound only (the test split of the run's own data, all of a SOURCE)",
    )
    evaluate.add_argument("--samples", type=_positive, help="of images: S of the importance-weighted bound (64)")
    evaluate.add_argument("--limit", type=_positive, help="measure a random LIMIT of the examples")
    evaluate.add_argument(
        "--phonemes", type=Path, metavar="TABLE", help="of sound: also tell which phonemes the codes stand for"
    )
    evaluate.add_argument(
        "--reconstruct",
        type=_positive,
        metavar="N",
        help="of sound: also decode the first N clips",
    )
    return parser
