r"""Voice conversion, judged by listeners: are the words kept, and is the voice that of the target speaker?

The judges are two listeners (`narrows.modalities.sound.listeners`) trained on the real training clips: one recognises
the words, one the speaker. They hear test clips decoded from their codes as their own speaker (reconstruction), as
every other one (conversion), and as their own speaker with the codes in random order (shuffled), which loses the words.
Chance is the share of the most common correct answer, which a listener that hears nothing could reach.

Sounds with equally many codes are drawn together, so each is drawn as it would be alone. Padding the codes to a common
length would not work, because the decoder also reads the codes after a sample's own, and a clip's last sample has none.

    python -m benchmarks.voice_conversion RUN [--data SOURCE] [--content '^(\d+)_'] [--temperature 1] [--seed 0]
        [--limit N] [--device cuda] [--threads 2] --out FOLDER
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from narrows.atomic import whole_file
from narrows.commands.source import open_run_data
from narrows.errors import NarrowsError
from narrows.evaluation.compare import spreads
from narrows.modalities.sound.clips import Clips
from narrows.modalities.sound.dataset import SoundData
from narrows.modalities.sound.listeners import Listener, wilson
from narrows.modalities.sound.mel import log_mel_distance
from narrows.modalities.sound.player import Clip, Sounds
from narrows.models import Autoencoder
from narrows.pretrained import load
from narrows.progress import progress
from narrows.report import Page, Section, Table, write_page
from narrows.report.tables import write_csv
from narrows.sampling import Sampling
from narrows.training.run import RunFolder

AT_ONCE = 256
"""Largest number of sounds drawn together."""
EXAMPLES = 10
REAL, RECONSTRUCTION, CONVERSION, SHUFFLED = "real", "reconstruction", "conversion", "shuffled"
HEADINGS = ["sounds", "count", "words kept", "target's voice", "source's voice", "log-mel, dB"]


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound made from a test clip.

    Args:
        kind: how it is made.
        clip: index of the clip.
        target: the speaker to decode as.
        codes: its codes, as `Autoencoder.encode` returns them, without the batch dimension.
        waveform: its waveform, float32 [T]; empty until it is drawn.
        words: the words that are recognised in it.
        voice: the speaker that is recognised in it.
    """

    kind: str
    clip: int
    target: int
    codes: Tensor
    waveform: Tensor
    words: int = -1
    voice: int = -1


@dataclass(frozen=True, eq=False)
class Real:
    """The real clips of a split, with their words and speakers.

    Args:
        waveforms: float32 [T] each.
        words: indices into the list of all words.
        voices: class indices of the speakers in the model.
        names: names of the files.
    """

    waveforms: list[Tensor]
    words: list[int]
    voices: list[int]
    names: list[str]


def rate_of(model: Autoencoder) -> int:
    """Return the sample rate of a model of sound, in Hz."""
    return int(model.spec.rate or 0)


def read(parts: Sequence[Clips], content: str, model: Autoencoder) -> tuple[list[Real], list[str]]:
    """Return the splits with their labels, and all words.

    Raises:
        NarrowsError: if a split has fewer than two clips, a name has no words, or the model does not know a speaker.
    """
    told = [[_words(name, content) for name in part.names] for part in parts]
    words = sorted({word for part in told for word in part})
    splits = []
    for part, said in zip(parts, told, strict=True):
        voices = part.numbered(model.classes).labels.tolist()
        if len(voices) < 2 or min(voices) < 0:
            raise NarrowsError(
                "voice conversion needs at least two training and two test clips, all of speakers that the model knows "
                f"({', '.join(model.classes)}): this data has fewer, or clips of other speakers"
            )
        waveforms = [part.clip(index) for index in range(len(part))]
        splits.append(Real(waveforms, [words.index(word) for word in said], voices, part.names))
    return splits, words


def _words(name: str, content: str) -> str:
    found = re.search(content, Path(name).stem)
    if found is None or not found.groups():
        raise NarrowsError(f"--content {content}: no group in it matches the words in the file name {name}")
    return found[1]


def requested(model: Autoencoder, test: Real, chosen: Sequence[int], generator: torch.Generator) -> Iterator[Sound]:
    """Yield the sounds to draw for the chosen clips: reconstructions, conversions and shuffled codes."""
    device = next(model.parameters()).device
    time = 0 if model.discrete else 1
    for clip in chosen:
        codes = model.encode(test.waveforms[clip].to(device).view(1, 1, -1))[0]
        own = test.voices[clip]
        for target in range(len(model.classes)):
            kind = RECONSTRUCTION if target == own else CONVERSION
            yield Sound(kind, clip, target, codes, torch.empty(0))
        order = torch.randperm(codes.shape[time], generator=generator).to(device)
        yield Sound(SHUFFLED, clip, own, codes.index_select(time, order), torch.empty(0))


def drawn(
    model: Autoencoder,
    sounds: Sequence[Sound],
    lengths: Sequence[int],
    temperature: float,
    generator: torch.Generator,
) -> list[Sound]:
    """Return the sounds with their waveforms, each as long as its clip; `lengths` are the lengths of the clips."""
    alike = defaultdict(list)
    for sound in sounds:
        alike[sound.codes.shape].append(sound)
    batches = [group[i : i + AT_ONCE] for group in alike.values() for i in range(0, len(group), AT_ONCE)]
    total = sum(-(-lengths[sound.clip] // model.hop) * model.hop for sound in sounds)
    made: list[Sound] = []
    samples = 0
    with progress("speak", -(-total // rate_of(model)), "s of sound") as meter:

        def advance(done: int, _: int) -> None:
            seconds = -(-(samples + done * len(batch)) // rate_of(model))
            if seconds > meter.done:  # not at every sample, because drawing the bar takes as long as a sample
                meter.to(seconds)

        for batch in batches:
            codes = torch.stack([sound.codes for sound in batch])
            targets = torch.tensor([sound.target for sound in batch])
            waveforms = model.decode(codes, targets, Sampling(temperature, seed=generator), advance).squeeze(1).cpu()
            samples += waveforms.numel()
            cut = [waveform[: lengths[sound.clip]] for sound, waveform in zip(batch, waveforms, strict=True)]
            made += [replace(sound, waveform=waveform) for sound, waveform in zip(batch, cut, strict=True)]
    return made


def heard(sounds: Sequence[Sound], of_words: Listener, of_voices: Listener) -> list[Sound]:
    """Return the sounds with what the listeners recognise in them."""
    waveforms = [sound.waveform for sound in sounds]
    answers = zip(sounds, of_words.labels(waveforms).tolist(), of_voices.labels(waveforms).tolist(), strict=True)
    return [replace(sound, words=words, voice=voice) for sound, words, voice in answers]


def judged(name: str, sounds: Sequence[Sound], test: Real) -> dict[str, Any]:
    """Return a row of the table: how often the words are kept and whose voice it is, with 95% intervals."""
    hits = {
        "words": [sound.words == test.words[sound.clip] for sound in sounds],
        "target": [sound.voice == sound.target for sound in sounds],
        "source": [sound.voice == test.voices[sound.clip] for sound in sounds],
    }
    row: dict[str, Any] = {"sounds": name, "count": len(sounds)}
    for what, right in hits.items():
        low, high = wilson(sum(right), len(right))
        row |= {what: sum(right) / len(right), f"{what}_low": low, f"{what}_high": high}
    return row


def chance(conversions: Sequence[Sound], test: Real) -> dict[str, Any]:
    """Return the row of a listener that hears nothing, for conversions."""

    def commonest(answers: Sequence[int]) -> float:
        return max(Counter(answers).values()) / len(answers)

    return {
        "sounds": "chance",
        "words": commonest([test.words[sound.clip] for sound in conversions]),
        "target": commonest([sound.target for sound in conversions]),
        "source": commonest([test.voices[sound.clip] for sound in conversions]),
    }


def distance(pairs: Sequence[tuple[Tensor, Tensor]], sample_rate: int) -> dict[str, float | None]:
    """Return the mean log-mel distance of pairs of sounds, cut to the shorter, and its standard deviation."""
    cut = [(x[: len(y)], y[: len(x)]) for x, y in pairs]
    spread = spreads([{"distance": log_mel_distance(x, y, sample_rate)} for x, y in cut])["distance"]
    return {"distance": spread.mean, "distance_deviation": spread.deviation}


def table(
    sounds: Sequence[Sound], real: Sequence[Sound], test: Real, model: Autoencoder, generator: torch.Generator
) -> list[dict[str, Any]]:
    """Return the rows of the results: `real` are the test clips themselves, `sounds` those made from them."""
    by_kind = {kind: [s for s in sounds if s.kind == kind] for kind in (RECONSTRUCTION, CONVERSION, SHUFFLED)}

    def apart(made: Sequence[Sound]) -> dict[str, float | None]:
        return distance([(sound.waveform, test.waveforms[sound.clip]) for sound in made], rate_of(model))

    reconstructions, conversions, shuffled = by_kind.values()
    rows = [judged(REAL, real, test)]
    rows.append(judged(RECONSTRUCTION, reconstructions, test) | apart(reconstructions))
    rows.append(judged(CONVERSION, conversions, test))
    for target, name in enumerate(model.classes):
        if of_target := [sound for sound in conversions if sound.target == target]:
            rows.append(judged(f"to {name}", of_target, test))
    rows.append(judged(SHUFFLED, shuffled, test) | apart(shuffled))
    others = [_other(sound.clip, len(test.waveforms), generator) for sound in reconstructions]
    pairs = [(test.waveforms[a], test.waveforms[s.clip]) for a, s in zip(others, reconstructions, strict=True)]
    rows.append({"sounds": "another clip", "count": len(pairs)} | distance(pairs, rate_of(model)))
    return [*rows, chance(conversions, test)]


def _other(clip: int, count: int, generator: torch.Generator) -> int:
    """Return a random clip other than `clip`."""
    return (clip + int(torch.randint(1, count, (), generator=generator))) % count


def cells(row: dict[str, Any]) -> list[str]:
    """Return the displayed cells of a row."""

    def rate(what: str) -> str:
        if what not in row:
            return "–"
        interval = f" ({100 * row[f'{what}_low']:.1f}–{100 * row[f'{what}_high']:.1f})" if f"{what}_low" in row else ""
        return f"{row[what]:.1%}{interval}"

    far = "–" if "distance" not in row else f"{row['distance']:.2f}"
    if row.get("distance_deviation") is not None:
        far += f" ± {row['distance_deviation']:.2f}"
    return [row["sounds"], str(row.get("count", "–")), rate("words"), rate("target"), rate("source"), far]


def examples(
    sounds: Sequence[Sound], test: Real, chosen: Sequence[int], words: list[str], model: Autoencoder
) -> list[Sounds]:
    """Return the first of the chosen clips with all the sounds made from it, and what is recognised in them."""

    def shown(kind: str, clip: int) -> list[Clip]:
        made = [sound for sound in sounds if sound.kind == kind and sound.clip == clip]
        names = [f"to {model.classes[sound.target]}" if kind == CONVERSION else kind for sound in made]
        answers = [f"{words[sound.words]}, {model.classes[sound.voice]}" for sound in made]
        return [Clip(f"{n}: {a}", sound.waveform) for n, a, sound in zip(names, answers, made, strict=True)]

    blocks = []
    for clip in chosen[:EXAMPLES]:
        own = [Clip("original", test.waveforms[clip]), *shown(RECONSTRUCTION, clip), *shown(SHUFFLED, clip)]
        caption = (
            f"{words[test.words[clip]]}, said by {model.classes[test.voices[clip]]} ({Path(test.names[clip]).name})"
        )
        blocks.append(Sounds(caption, [own, shown(CONVERSION, clip)], rate_of(model)))
    return blocks


def write(out: Path, about: str, rows: Sequence[dict[str, Any]], shown: Sequence[Sounds]) -> None:
    """Write the table and a page with the table and the examples, and print the table."""
    command = "python -m benchmarks.voice_conversion " + shlex.join(sys.argv[1:])
    lines = [
        f"`{command}`",
        "",
        about,
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "| --- |" + (len(HEADINGS) - 1) * " ---: |",
    ]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    print("\n".join(lines))
    write_csv(out / "voice_conversion.csv", rows)
    with whole_file(out / "voice_conversion.md") as aside:
        aside.write_text("\n".join(lines) + "\n")
    heading = "Test clips, not used in training, with the words and the voice that the listeners recognise in each."
    sections = [
        Section("Judged by listeners", about, [Table("", HEADINGS, [cells(row) for row in rows])]),
        Section("Examples", heading, shown),
    ]
    write_page(out / "voice_conversion.html", Page("Voice conversion", command, sections=sections))


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="the run folder of a model of sound")
    parser.add_argument("--data", metavar="SOURCE", help="path of the clips, if they have moved since the run")
    parser.add_argument("--content", metavar="REGEX", default=r"^(\d+)_", help="its group matches a file's words")
    parser.add_argument("--temperature", type=float, default=1.0, help="divides the logits of a WaveNet's levels")
    parser.add_argument("--seed", type=int, default=0, help="seed of all draws")
    parser.add_argument("--limit", type=int, metavar="N", help="number of random test clips to use; all by default")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the results")
    return parser.parse_args()


def main() -> None:
    """Judge a run, print the table, and write it with its sounds."""
    settings = options()
    torch.set_num_threads(settings.threads)
    model = load(settings.run, settings.device)
    data = open_run_data(RunFolder(settings.run), model, settings.data)
    if not isinstance(data, SoundData) or not model.conditional or len(model.classes) < 2:
        raise NarrowsError(f"{settings.run} is not a model of sound with several voices, so it cannot convert voices")
    (train, test), words = read([data.train, data.test], settings.content, model)
    generator = torch.Generator().manual_seed(settings.seed)
    chosen = torch.randperm(len(test.names), generator=generator)[: settings.limit].tolist()
    of_words = Listener.train(train.waveforms, train.words, rate_of(model))
    of_voices = Listener.train(train.waveforms, train.voices, rate_of(model))

    wanted = list(requested(model, test, chosen, generator))
    lengths = [len(waveform) for waveform in test.waveforms]
    sounds = heard(drawn(model, wanted, lengths, settings.temperature, generator), of_words, of_voices)
    originals = [Sound(REAL, i, voice, torch.empty(0), test.waveforms[i]) for i, voice in enumerate(test.voices)]
    rows = table(sounds, heard(originals, of_words, of_voices), test, model, generator)

    about = (
        f"Model {settings.run}, seed {settings.seed}, temperature {settings.temperature:g}. Two listeners trained on "
        f"{len(train.names)} real clips judge {len(chosen)} test clips decoded from their codes. In brackets: 95% "
        "Wilson intervals, which treat the sounds as independent. Chance: always the commonest answer, of conversions. "
        "Log-mel distances are to the clip itself: mean ± standard deviation over clips."
    )
    write(settings.out, about, rows, examples(sounds, test, chosen, words, model))


if __name__ == "__main__":
    try:
        main()
    except NarrowsError as error:
        sys.exit(f"voice_conversion: {error}")
