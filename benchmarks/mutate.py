"""Damage the files of finished runs in many ways, and check how the commands that read them react.

Two tiny runs, one of images and one of sound, are copied with priors and codes. A file is flipped, truncated, emptied,
swapped, deleted or edited, as by a bad disk, an interrupted copy or an attacker. Then a command that reads it is run,
and its output is compared with that of the undamaged run:

right     the same output, from a file that the command reads
harmless  the same output, and the command does not read the file
told      another output, after a warning that names the file or what changed
setting   another output, because the changed file is valid with other settings (a recipe, a log, an attacker's model)
error     one line that states what is wrong and where, and exit status 1
VAGUE     one line that names neither the file nor the setting (does not fail the run)
SILENT    another output without a warning
TRACEBACK anything else, such as an exception of PyTorch
EXECUTED  code that the file names was run

    python -m benchmarks.mutate [--count 500] [--seed 0] [--keep FOLDER]

Exits with status 1 if there is any of the last three outcomes.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import io
import json
import logging
import random
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.torch import load_file

from benchmarks.tiny_runs import TinyRun, tiny_runs
from narrows.cli import main as narrows
from narrows.pretrained import load
from narrows.progress import progress

__all__ = ["FAILURES", "READERS", "Case", "Outcome", "Workshop", "tally"]

FAILURES = ("SILENT", "TRACEBACK", "EXECUTED")
OUTCOMES = ("right", "harmless", "told", "setting", "error", "VAGUE", *FAILURES)
TIMINGS = ("steps_per_second", "waiting", "peak_memory_mib")
STEPS, EVERY = 6, 2
SENTINEL = "mutation_sentinel"
"""Module that leaves a mark when it is imported or called."""

Output = dict[str, str]
"""The output of a command: digests by name."""


def _sha(content: bytes | str) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def _tensors(*tensors: torch.Tensor) -> str:
    return _sha(b"".join(tensor.detach().contiguous().numpy().tobytes() for tensor in tensors))


def _files(folder: Path, pattern: str) -> Output:
    return {file.name: _sha(file.read_bytes()) for file in sorted(folder.glob(pattern))}


def _weights(folder: Path) -> str:
    return _tensors(*(tensor for _, tensor in sorted(load_file(folder / "model.safetensors").items())))


def _figures(file: Path) -> str:
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    return _sha(json.dumps([{name: row[name] for name in row if name not in TIMINGS} for row in rows]))


class CommandFailed(Exception):
    """Error for a command that ended with a status other than 0."""


@dataclass(frozen=True)
class Reader:
    """A command, or a call of the library, that reads some files of a run.

    Attributes:
        name: name in the table.
        run: runs it, given the run, the folder of the copy and a folder to write to, and returns its output.
        reads: patterns of the files that it reads.
        kinds: kinds of runs that it applies to.
    """

    name: str
    run: Callable[[TinyRun, Path, Path], Output]
    reads: tuple[str, ...]
    kinds: tuple[str, ...] = ("images", "sound")

    def uses(self, file: Path) -> bool:
        """Return whether it reads the file with this path relative to the run."""
        return any(len(file.parts) == pattern.count("/") + 1 and file.match(pattern) for pattern in self.reads)


def _narrows(*arguments: object) -> None:
    if narrows([str(argument) for argument in arguments]):
        raise CommandFailed


def _voice(run: TinyRun) -> list[str]:
    return ["--speaker", "al"] if run.kind == "sound" else []


def _load(run: TinyRun, folder: Path, out: Path) -> Output:
    model = load(folder)
    torch.manual_seed(0)
    x = torch.rand(2, *((1, 8, 8) if run.kind == "images" else (1, 64)))
    codes = model.encode(x)
    speaker = [torch.tensor([0, 1])] if run.kind == "sound" else []
    torch.manual_seed(0)
    decoded = model.decode(codes, *speaker)
    torch.manual_seed(0)
    return {
        "codes": _tensors(codes),
        "decoded": _tensors(decoded),
        "classes": str(model.classes),
        "sample": _tensors(model.sample(2)),
    }


def _sample(run: TinyRun, folder: Path, out: Path) -> Output:
    _narrows("sample", folder, "-n", 2, "--out", out / ("samples.png" if run.kind == "images" else "samples"))
    return _files(out, "**/*.png") | _files(out, "**/*.wav")


def _reconstruct(run: TinyRun, folder: Path, out: Path) -> Output:
    target = out / ("r.png" if run.kind == "images" else "r")
    _narrows("reconstruct", folder, *run.files, *_voice(run), "--out", target)
    return _files(out, "**/*.png") | _files(out, "**/*.wav")


def _encode(run: TinyRun, folder: Path, out: Path) -> Output:
    _narrows("encode", folder, *run.files, "--out", out / "codes.npz")
    with np.load(out / "codes.npz") as content:
        return {name: _sha(content[name].tobytes()) for name in content.files if name in ("codes", "lengths", "sizes")}


def _decode(run: TinyRun, folder: Path, out: Path) -> Output:
    _narrows("decode", folder, folder / "codes.npz", *_voice(run), "--out", out)
    return _files(out, "*.png") | _files(out, "*.wav")


def _evaluate(run: TinyRun, folder: Path, out: Path) -> Output:
    shown = ["--samples", 2] if run.kind == "images" else []
    _narrows("evaluate", folder, "--limit", 4, *shown)
    return {"figures": _sha(json.dumps(json.loads((folder / "evaluation.json").read_text())["figures"]))}


def _evaluate_phonemes(run: TinyRun, folder: Path, out: Path) -> Output:
    _narrows("evaluate", folder, "--limit", 4, "--phonemes", run.folder / "speech")
    found = json.loads((folder / "phonemes.json").read_text())
    return {"counts": _sha(json.dumps(found["counts"])), "figures": _sha(json.dumps(found["figures"]))}


def _train_resume(run: TinyRun, folder: Path, out: Path) -> Output:
    _narrows(*run.train(folder, resume=True))
    return {"weights": _weights(folder / "model"), "figures": _figures(folder / "metrics.jsonl")}


def _prior_resume(run: TinyRun, folder: Path, out: Path) -> Output:
    _narrows(*run.prior(folder, resume=True))
    return {"weights": _weights(folder / "prior" / "model"), "figures": _figures(folder / "prior" / "metrics.jsonl")}


MODEL = ("model/*",)
WHOLE = (*MODEL, "prior/model/*")
REPORT = ("recipe.yaml", "metrics.jsonl", "data.json", "evaluation.json", "phonemes.json", "prior/metrics.jsonl")
READERS = [
    Reader("load", _load, WHOLE),
    Reader("sample", _sample, WHOLE),
    Reader("reconstruct", _reconstruct, WHOLE),
    Reader("encode", _encode, WHOLE),
    Reader("decode", _decode, (*WHOLE, "codes.npz")),
    Reader("evaluate", _evaluate, (*WHOLE, *REPORT)),
    Reader("train --resume", _train_resume, (*REPORT, *WHOLE, "checkpoints/*/*")),
    Reader("prior --resume", _prior_resume, (*WHOLE, *REPORT, "prior/recipe.yaml", "prior/checkpoints/*/*")),
    Reader("evaluate --phonemes", _evaluate_phonemes, (*WHOLE, *REPORT), ("sound",)),
]


@dataclass(frozen=True)
class Mutation:
    """A way to damage a file.

    Attributes:
        kind: name in the table.
        apply: damages a file, given the run's copy, the file and a random generator, and returns a description, or None
            if it does not apply.
        honest: whether the result is a valid file with other settings, whose output may differ.
    """

    kind: str
    apply: Callable[[Path, Path, random.Random], str | None]
    honest: bool = False


def _flip(run: Path, file: Path, dice: random.Random) -> str | None:
    content = bytearray(file.read_bytes())
    if not content:
        return None
    at, bit = dice.randrange(len(content)), dice.randrange(8)
    content[at] ^= 1 << bit
    file.write_bytes(content)
    return f"bit {bit} of byte {at} of {len(content)}"


def _cut(run: Path, file: Path, dice: random.Random) -> str | None:
    content = file.read_bytes()
    if not content:
        return None
    left = dice.choice([0, 1, len(content) // 2, len(content) - 1, dice.randrange(len(content))])
    file.write_bytes(content[:left])
    return f"cut to {left} of {len(content)} bytes"


def _zero(run: Path, file: Path, dice: random.Random) -> str | None:
    content = bytearray(file.read_bytes())
    if not any(content):
        return None
    start = dice.randrange(len(content))
    length = min(dice.choice([1, 16, 512, 4096]), len(content) - start)
    content[start : start + length] = bytes(length)
    file.write_bytes(content)
    return f"{length} bytes from {start} zeroed"


def _grow(run: Path, file: Path, dice: random.Random) -> str | None:
    extra = dice.randbytes(dice.choice([1, 100]))
    with file.open("ab") as opened:
        opened.write(extra)
    return f"{len(extra)} bytes more"


def _delete(run: Path, file: Path, dice: random.Random) -> str | None:
    file.unlink()
    return "deleted"


def _folder(run: Path, file: Path, dice: random.Random) -> str | None:
    file.unlink()
    file.mkdir()
    return "a folder of that name"


def _swap(run: Path, file: Path, dice: random.Random) -> str | None:
    same = [other for other in sorted(run.rglob(file.name)) if other != file and other.is_file()]
    others = same or [other for other in sorted(run.rglob("*")) if other.is_file() and other != file]
    other = dice.choice(others)
    file.write_bytes(other.read_bytes())
    return f"the content of {other.relative_to(run)}"


VALUES: tuple[Any, ...] = (None, True, -1, 0, 10**30, 1e308, "", "x" * 1000, [], [[]], {}, {"a": 1}, "\0", "nan", 2.5)


def _spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        found += _spots(inner, (*path, key))
    return found


def _parse(file: Path) -> Any:
    text = file.read_text()
    if file.suffix == ".yaml":
        return yaml.safe_load(text)
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


def _write(file: Path, content: Any) -> None:
    if file.suffix == ".yaml":
        file.write_text(yaml.safe_dump(content, sort_keys=False))
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in content))
    else:
        file.write_text(json.dumps(content, indent=1))


def _edit(run: Path, file: Path, dice: random.Random) -> str | None:
    """Replace, remove or add one value of a JSON or YAML file."""
    if file.suffix not in (".json", ".yaml", ".jsonl"):
        return None
    content = _parse(file)
    *parents, last = dice.choice(_spots(content))
    holder = content
    for key in parents:
        holder = holder[key]
    where = ".".join(map(str, (*parents, last)))
    action = dice.choice(["replace", "replace", "remove", "rename"])
    if action == "replace":
        old = holder[last]
        value = dice.choice([*VALUES, -old, old * 10] if isinstance(old, int | float) else VALUES)
        holder[last] = value
        done = f"{where} = {str(value)[:20]!r}"
    elif action == "remove" or isinstance(holder, list):
        del holder[last]
        done = f"{where} removed"
    else:
        holder[f"{last}_"] = holder.pop(last)
        done = f"{where} renamed"
    _write(file, content)
    _sum_again(file)
    return done


CALLABLES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("os.system", {"command": "touch {mark}"}),
    ("subprocess.Popen", {"args": ["touch", "{mark}"]}),
    ("subprocess.run", {"args": ["touch", "{mark}"]}),
    ("os.mkdir", {"path": "{mark}"}),
    ("builtins.open", {"file": "{mark}", "mode": "w"}),
    ("builtins.exec", {"source": "open('{mark}', 'w')"}),
    ("pathlib.Path.touch", {"self": "{mark}"}),
    ("shutil.copyfile", {"src": "/dev/null", "dst": "{mark}"}),
    (f"{SENTINEL}.mark", {}),
    (f"{SENTINEL}.Marking", {}),
    (f"{SENTINEL}", {}),
    ("narrows.atomic.flush", {"path": "{mark}"}),
    ("narrows.training.run.RunFolder", {"path": "{mark}"}),
    ("torch.nn.Identity", {}),
    ("narrows.models.Autoencoder", {}),
    ("VectorQuantizer", {"dim": 4, "codebook_size": 8}),
    ("../narrows", {}),
    ("", {}),
)


def _hostile(run: Path, file: Path, dice: random.Random) -> str | None:
    """Put a callable in the place of a class or a value, and update the checksums."""
    if file.name not in ("config.json", "recipe.yaml"):
        return None
    content = _parse(file)
    name, arguments = dice.choice(CALLABLES)
    mark = str(run.parent / "EXECUTED")
    arguments = json.loads(json.dumps(arguments).replace("{mark}", mark))
    spots = _spots(content)
    classes = [spot[:-1] for spot in spots if spot[-1] == "class_path"]
    *parents, last = dice.choice(classes if dice.random() < 0.7 else spots)
    holder = content
    for key in parents:
        holder = holder[key]
    value: Any = {"class_path": name, "init_args": arguments}
    holder[last] = value if dice.random() < 0.8 else name
    _write(file, content)
    _sum_again(file)
    return f"{'.'.join(map(str, (*parents, last)))} = {name}"


def _sum_again(file: Path) -> None:
    """Update the checksums next to a file, as an attacker who edits it would."""
    sums = file.parent / "SHA256SUMS"
    if sums.exists() and file != sums:
        lines = [line for line in sums.read_text().splitlines() if not line.endswith(f"  {file.name}")]
        sums.write_text("".join(f"{line}\n" for line in [*lines, f"{_sha(file.read_bytes())}  {file.name}"]))


MUTATIONS = [
    Mutation("flip", _flip),
    Mutation("flip", _flip),
    Mutation("cut", _cut),
    Mutation("zero", _zero),
    Mutation("grow", _grow),
    Mutation("delete", _delete),
    Mutation("folder", _folder),
    Mutation("swap", _swap),
    Mutation("edit", _edit, honest=True),
    Mutation("edit", _edit, honest=True),
    Mutation("hostile", _hostile, honest=True),
]
BY_HAND = ("recipe.yaml", "metrics.jsonl", "phonemes.json", "evaluation.json", "data.json")
"""Text files without a checksum, since people edit them: any that can still be read is valid with other settings."""
SELDOM = ("tensorboard", "report.html", "samples", "reconstructions", ".log")


@dataclass
class Case:
    """One mutation and the command that read the file."""

    kind: str
    reader: str
    file: str
    mutation: str
    done: str
    number: int

    def __str__(self) -> str:
        return f"#{self.number} {self.kind} {self.file}: {self.mutation} ({self.done}), `{self.reader}`"


@dataclass
class Outcome:
    """The outcome of a case; `detail` is the message or the end of the traceback."""

    case: Case
    verdict: str
    detail: str = ""


@dataclass
class Workshop:
    """The finished runs, and the output of every reader for them undamaged.

    Args:
        folder: an empty folder to work in.
        readers: the readers to run on damaged copies.
    """

    folder: Path
    readers: Sequence[Reader] = tuple(READERS)
    runs: list[TinyRun] = field(init=False)
    expected: dict[tuple[str, str], Output] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.runs = tiny_runs(self.folder / "runs", STEPS, EVERY)
        (self.folder / f"{SENTINEL}.py").write_text(
            "import pathlib\n"
            f"mark = lambda *a, **k: pathlib.Path({str(self.folder / 'work' / 'EXECUTED')!r}).touch()\n"
            "class Marking:\n    def __init__(self, *a, **k): mark()\nmark()\n"
        )

    def prepare(self, advance: Callable[[], None]) -> None:
        """Train both runs, and record the output of every reader."""
        for run in self.runs:
            whole = self._whole(run)
            with _captured():
                _narrows(*run.train(whole))
                _narrows(*run.prior(whole))
                _narrows("encode", whole, *run.files, "--out", whole / "codes.npz")
                _evaluate(run, whole, self.folder)
                if run.kind == "sound":
                    _evaluate_phonemes(run, whole, self.folder)
            advance()
            for reader in self._readers(run):
                copy, out = self._copy(run, reader)
                with _captured():
                    self.expected[run.kind, reader.name] = reader.run(run, copy, out)
                advance()

    def try_one(self, number: int, dice: random.Random) -> tuple[Outcome, Path]:
        """Damage a random file of a copy and run a reader on it; return the outcome and the damaged copy."""
        while True:
            run = dice.choice(self.runs)
            reader = dice.choice(self._readers(run))
            copy, out = self._copy(run, reader)
            file = self._choose(copy, reader, dice)
            mutation = dice.choice(MUTATIONS)
            done = mutation.apply(copy, file, dice)
            if done is not None:
                break
        name = str(file.relative_to(copy))
        case = Case(run.kind, reader.name, name, mutation.kind, done, number)
        mark = copy.parent / "EXECUTED"
        sys.modules.pop(SENTINEL, None)
        spoilt = self.folder / "spoilt"
        shutil.rmtree(spoilt, ignore_errors=True)
        shutil.copytree(copy, spoilt)
        verdict, detail = self._judge(run, reader, copy, out, case, mutation)
        if mark.exists():
            verdict = "EXECUTED"
            shutil.rmtree(mark) if mark.is_dir() else mark.unlink()
        return Outcome(case, verdict, detail), spoilt

    def _judge(
        self, run: TinyRun, reader: Reader, copy: Path, out: Path, case: Case, mutation: Mutation
    ) -> tuple[str, str]:
        with _captured() as said:
            try:
                found = reader.run(run, copy, out)
            except CommandFailed:
                return self._of_message(said.getvalue(), case)
            except (Exception, SystemExit) as error:
                if type(error).__module__.startswith("narrows.") and reader.name == "load":
                    return self._of_message(f"narrows: {error}", case)
                last = traceback.extract_tb(error.__traceback__)[-3:]
                where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(last))
                ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/narrows/" in frame.filename]
                inner = f"; {Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""
                return "TRACEBACK", f"{type(error).__name__}: {str(error)[:200]} @ {where}{inner}"
        if found == self.expected[run.kind, reader.name]:
            return ("right" if reader.uses(Path(case.file)) else "harmless"), ""
        if mutation.honest or Path(case.file).name in BY_HAND:
            return "setting", ""
        text = said.getvalue()
        if Path(case.file).name in text or "data are not those" in text or "SHA256SUMS" in text:
            return "told", text.strip()[-300:]
        return "SILENT", ", ".join(
            sorted(key for key in found if found[key] != self.expected[run.kind, reader.name].get(key))
        )

    def _of_message(self, text: str, case: Case) -> tuple[str, str]:
        message = text[text.rfind("narrows:") :].strip() if "narrows:" in text else text.strip()
        parts = [
            Path(case.file).name,
            *(part for part in case.done.replace("=", " ").split()[0].split(".") if len(part) > 3),
        ]
        named = any(part in message for part in [*parts, str(Path(case.file).parent)] if part != ".")
        return ("error" if named else "VAGUE"), message[:400]

    def _readers(self, run: TinyRun) -> list[Reader]:
        return [reader for reader in self.readers if run.kind in reader.kinds]

    def _whole(self, run: TinyRun) -> Path:
        return self.folder / f"whole-{run.kind}"

    def _copy(self, run: TinyRun, reader: Reader) -> tuple[Path, Path]:
        place = self.folder / "work"
        shutil.rmtree(place, ignore_errors=True)
        copy, out = place / "run", place / "out"
        shutil.copytree(self._whole(run), copy)
        out.mkdir()
        for name, folder in (("train --resume", copy), ("prior --resume", copy / "prior")):
            if reader.name == name:  # keep one checkpoint, with something left to train after it
                for step in range(EVERY, STEPS + 1, EVERY):
                    if step != STEPS - EVERY:
                        shutil.rmtree(folder / "checkpoints" / f"step-{step:08d}", ignore_errors=True)
        return copy, out

    @staticmethod
    def _choose(copy: Path, reader: Reader, dice: random.Random) -> Path:
        files = [file for file in sorted(copy.rglob("*")) if file.is_file() and not file.is_symlink()]
        kept = [file for file in files if not any(part in str(file.relative_to(copy)) for part in SELDOM)]
        read = [file for file in kept if reader.uses(file.relative_to(copy))]
        return dice.choice(read if dice.random() < 0.9 else files)


@contextlib.contextmanager
def _captured() -> Any:
    """Capture what is printed and logged."""
    said = io.StringIO()
    disabled = logging.root.manager.disable
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            yield said
        finally:
            logging.disable(disabled)


def tally(outcomes: list[Outcome]) -> list[str]:
    """Return the lines of the table, one row per file and kind of mutation."""
    counts = collections.Counter(
        (_short(outcome.case.file), outcome.case.mutation, outcome.verdict) for outcome in outcomes
    )
    rows = sorted({key[:2] for key in counts})
    lines = ["| file | mutation | " + " | ".join(OUTCOMES) + " |", "| --- | --- |" + " ---: |" * len(OUTCOMES)]
    for row in rows:
        lines.append(
            f"| {row[0]} | {row[1]} | " + " | ".join(str(counts[(*row, name)] or "") for name in OUTCOMES) + " |"
        )
    totals = collections.Counter(outcome.verdict for outcome in outcomes)
    lines.append("| all | | " + " | ".join(str(totals[name]) for name in OUTCOMES) + " |")
    return lines


def _short(file: str) -> str:
    path = Path(file)
    return "/".join("step-*" if part.startswith("step-") else part for part in path.parts)


def main() -> int:
    """Run the mutations and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500, help="mutations")
    parser.add_argument("--seed", type=int, default=0, help="seed of the mutations")
    parser.add_argument("--keep", type=Path, help="folder for the damaged runs of the failures")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    settings = parser.parse_args()
    torch.set_num_threads(settings.threads)

    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        workshop = Workshop(Path(scratch))
        sys.path.insert(0, scratch)
        with progress("prepare", sum(len(reader.kinds) for reader in READERS) + 2) as meter:
            workshop.prepare(meter.advance)
        with progress("mutate", settings.count, "mutations") as meter:
            for number in range(settings.count):
                dice = random.Random(f"{settings.seed}-{number}")
                outcome, spoilt = workshop.try_one(number, dice)
                outcomes.append(outcome)
                if outcome.verdict in FAILURES and settings.keep is not None:
                    shutil.copytree(spoilt, settings.keep / f"{number:04}", dirs_exist_ok=True)
                if outcome.verdict in (*FAILURES, "VAGUE"):
                    print(f"{outcome.verdict} {outcome.case}\n    {outcome.detail}", flush=True)
                meter.advance()
    print("\n".join(tally(outcomes)))
    return int(any(outcome.verdict in FAILURES for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
