"""The seam between the core and the kinds of data: what a kind of data offers, and all that the core asks of it.

A kind of data is a folder below `narrows.modalities`, found by the one key `modality` of a recipe and of a model's
config.json. The core names none; it asks a `Modality` instead.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from torch import Tensor

from narrows.data import Data, Examples, Spec
from narrows.errors import NarrowsError

if TYPE_CHECKING:
    from narrows.config import TrainingRecipe
    from narrows.models import Autoencoder
    from narrows.progress import Progress
    from narrows.report.page import Block, Section
    from narrows.training.run import RunFolder

__all__ = ["Modality", "Row"]


class Row(NamedTuple):
    """Examples shown beside each other."""

    name: str
    examples: Sequence[Tensor]
    """Each [C, *size]."""


class Modality(ABC):
    """A kind of data.

    Attributes:
        name: the key of recipes and models.
        unit: what examples are called, in the plural.
        dimension: what the dimensions of an example are called, in the plural.
        suffix: the ending of the files that `write` writes.
        extensions: the endings of the files that `open` looks for.
        recipe: the training recipe, with the settings of these data.
        default_prior: the recipe of the prior that suits the codes of these data.
        samples: S of the importance-weighted bound, where nothing is said.
        units: the units of the figures that these data have of their own, by name.
        options: the options of commands that only these data have, by command.
        shared_overrides: settings under which several runs share what one of them has decoded.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    dimension: ClassVar[str]
    suffix: ClassVar[str]
    extensions: ClassVar[tuple[str, ...]]
    recipe: ClassVar[type[TrainingRecipe]]
    default_prior: ClassVar[str]
    samples: ClassVar[int] = 1
    units: ClassVar[Mapping[str, str]] = MappingProxyType({})
    options: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    shared_overrides: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def open(self, settings: Any, progress: Progress, quiet: bool = False, spec: Spec | None = None) -> Data:
        """Find, split and decode the data that `settings` describe.

        Args:
            settings: which, and how.
            progress: shows how far the work is.
            quiet: announce nothing (the other processes of a run).
            spec: that of a model, by which examples are read whatever the settings say.

        Raises:
            DataError: if there are none, or not as described.
        """

    def overrides_of_another_source(self, settings: Mapping[str, Any]) -> list[str]:
        """Return what changes in the settings of a run's data where another source is read by them."""
        return []

    def fitted(self, spec: Spec) -> str:
        """Return what is done to other data so that a model of `spec` can read them, in a line; "" if nothing is."""
        return ""

    @abstractmethod
    def read(self, files: Sequence[Path], spec: Spec) -> list[Tensor]:
        """Return what a model reads of files, each [C, *size]; what had to be done to them is logged.

        Raises:
            DataError: naming the first file that cannot be read.
        """

    @abstractmethod
    def write(self, path: Path, x: Tensor, spec: Spec) -> None:
        """Write an example [C, *size] to a file that a person's own programs open."""

    @abstractmethod
    def save_rows(self, out: Path, title: str, rows: Sequence[Row], spec: Spec, **options: Any) -> Path:
        """Write examples to files, to be looked at or listened to, and return the path to open.

        Args:
            out: the file or, of examples with a file each, the folder; its suffix may be left out.
            title: what they are.
            rows: the examples; a row belongs together.
            spec: of the examples.
            options: those of `options`.
        """

    @abstractmethod
    def save_versions(
        self,
        out: Path,
        title: str,
        names: Sequence[str],
        versions: Mapping[str, Sequence[Tensor]],
        spec: Spec,
        **options: Any,
    ) -> Path:
        """Write several versions of the same examples, such as originals and reconstructions; as `save_rows`.

        Args:
            out: the file or folder.
            title: what they are.
            names: of the examples.
            versions: the examples, by the name of the version; the last is also written as files of its own, where
                examples have files.
            spec: of the examples.
            options: those of `options`.
        """

    @abstractmethod
    def show_rows(self, rows: Sequence[Row], spec: Spec, caption: str) -> Block:
        """Return a block of a report that shows rows of examples."""

    @abstractmethod
    def show_versions(self, versions: Mapping[str, Sequence[Tensor]], spec: Spec, caption: str) -> Block:
        """Return a block of a report that shows several versions of the same examples next to each other."""

    def figures(self, x: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """Return figures of reconstructions [B, C, *size] that these data have of their own, [B] each.

        Nothing is decoded for them where a modality does not say that it `has_figures`.
        """
        return {}

    has_figures: ClassVar[bool] = False

    @abstractmethod
    def describe(self, data: Data, spec: Spec) -> str:
        """Return what a model was trained on in a line, for the head of its report."""

    @abstractmethod
    def facts(self, model: Autoencoder, figures: Mapping[str, float]) -> dict[str, str]:
        """Return headline figures of a model by label, for the head of its report."""

    def reconstructions(self, model: Autoencoder, examples: Examples, progress: Progress) -> Iterator[Section] | None:
        """Yield the sections of a report on reconstructions; None for the usual one."""
        return None

    def sections(self, run: RunFolder, model: Autoencoder) -> Iterator[Section]:
        """Yield further sections of the report of a run."""
        yield from ()

    def evaluate(
        self,
        run: RunFolder,
        model: Autoencoder,
        data: Data,
        examples: Examples,
        source: str | None,
        progress: Progress,
        **options: Any,
    ) -> dict[str, float]:
        """Return the figures that the options of `narrows evaluate` ask for."""
        return {}

    def distances(
        self, data: Data, real: Examples, made: Mapping[float, Mapping[str, Tensor]], progress: Progress
    ) -> tuple[dict[float, dict[str, float]], str]:
        """Return how far sets of generated examples are from real ones, and what a report should say of that.

        Args:
            data: what the models were trained on.
            real: examples of the test split.
            made: as many examples by name, such as samples and reconstructions, for each point of a curve.
            progress: shows how far the work is.
        """
        return {point: {} for point in made}, ""

    def accept(self, command: str, options: Mapping[str, Any], whose: str) -> dict[str, Any]:
        """Return the options that were set, if these data have them for that command.

        Raises:
            NarrowsError: naming one that they have not.
        """
        chosen = {name: value for name, value in options.items() if value is not None}
        for name, value in chosen.items():
            if name not in self.options.get(command, ()):
                raise NarrowsError(
                    f"--{name.replace('_', '-')} {value}: {whose} is a model of {self.name}, which has no such option "
                    f"for `narrows {command}`; leave it out"
                )
        return chosen
