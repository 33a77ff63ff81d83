"""The house: no module outside `narrows.modalities` names a kind of data, and imports run one way."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import narrows
from narrows.modalities import MODALITIES, find_modality

ROOT = Path(narrows.__file__).parent
KINDS = {"image", "sound", "audio", "speech", "speaker", "phoneme", "voice", "music", "midi", "motion", "video"}
WORDS = KINDS | {f"{kind}s" for kind in KINDS}
OLD_FILES = ROOT / "migrations.py"
"""The one place that knows how files told kinds of data apart before they said their modality."""
SHARED = [path for path in sorted(ROOT.rglob("*.py")) if "modalities" not in path.relative_to(ROOT).parts]


def words(identifier: str) -> set[str]:
    """The words of a name in snake or camel case."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", identifier)
    return set(spaced.lower().split("_"))


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The names that a module defines, and those that it takes from the package, with their lines."""
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield line, node.name
        elif isinstance(node, ast.arg):
            yield line, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield line, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield line, node.attr
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("narrows"):
            yield from ((line, part) for part in (node.module or "").split("."))
            yield from ((line, alias.name) for alias in node.names)
        elif isinstance(node, ast.Constant) and node.value in {*WORDS, *MODALITIES}:
            yield line, str(node.value)


@pytest.mark.parametrize("path", [path for path in SHARED if path != OLD_FILES], ids=lambda path: path.stem)
def test_the_core_names_no_kind_of_data(path: Path) -> None:
    found = [f"{path.name}:{line}: {name}" for line, name in names(ast.parse(path.read_text())) if words(name) & WORDS]
    assert not words(path.stem) & WORDS
    assert not found


@pytest.mark.parametrize("path", SHARED, ids=lambda path: path.stem)
def test_the_core_imports_no_modality(path: Path) -> None:
    """But for the folder's own index, which finds one by its name."""
    allowed = {"narrows.modalities", "narrows.modalities.recipes"}
    found = {
        node.module
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("narrows.modalities")
    }
    assert found <= allowed


def test_the_rule_finds_what_breaks_it() -> None:
    broken = (
        "from narrows.modalities.sound.clips import Clips\ndef read_images(pixels): kind = 'sound'; self.speaker = 1"
    )
    found = {name for _, name in names(ast.parse(broken)) if words(name) & WORDS}
    assert found == {"sound", "read_images", "speaker"}
    assert words("SoundAutoencoder") & WORDS


def test_imports_run_one_way() -> None:
    """No module imports one that imports it, directly or by way of others; imports for types alone do not count."""
    graph = {_module(path): set(_imports(path)) for path in ROOT.rglob("*.py")}
    done: set[str] = set()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above[above.index(module) :], module])
        if module not in done:
            for other in sorted(graph.get(module, ())):
                visit(other, (*above, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_every_modality_is_found_by_its_name() -> None:
    for name in MODALITIES:
        modality = find_modality(name)
        assert modality.name == name
        assert modality.recipe.__dataclass_fields__["modality"].default == name


def _module(path: Path) -> str:
    parts = ("narrows", *path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> Iterator[str]:
    """The modules of the package that a module imports when it is imported itself."""
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("narrows"):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                own = ROOT.joinpath(*submodule.split(".")[1:])
                yield submodule if own.with_suffix(".py").exists() else str(node.module)
