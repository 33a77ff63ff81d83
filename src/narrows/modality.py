"""The interface between the core and the kinds of data.

A kind of data is a folder in `narrows.modalities`, selected by the key `modality` of a recipe and of a model's
config.json. The core names no kind of data; it only uses the methods of a `Modality`.
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
    """Examples shown next to each other."""

    name: str
    examples: Sequence[Tensor]
    """The examples, each [C, *size]."""


class Modality(ABC):
    """A kind of data.

    Attributes:
        name: name in recipes and models.
        unit: plural noun for examples.
        dimension: plural noun for the dimensions of an example.
        suffix: suffix of the files that `write` writes, unless `suffix_of` depends on the model.
        extensions: suffixes of the files that `open` looks for.
        recipe: the training recipe class, with the settings of these data.
        default_prior: name of the prior recipe that suits the codes of these data.
        samples: S, the default number of samples of the importance-weighted bound.
        has_figures: whether the modality has figures of its own, from `figures`.
        has_distances: whether the modality measures distances of generated examples, by `distances`.
        units: units of the modality's own figures, by name.
        options: the modality's own command options, by command.
        shared_overrides: settings that let several runs share data decoded by one of them.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    dimension: ClassVar[str]
    suffix: ClassVar[str]
    extensions: ClassVar[tuple[str, ...]]
    recipe: ClassVar[type[TrainingRecipe]]
    default_prior: ClassVar[str]
    samples: ClassVar[int] = 1
    has_figures: ClassVar[bool] = False
    has_distances: ClassVar[bool] = False
    units: ClassVar[Mapping[str, str]] = MappingProxyType({})
    options: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    shared_overrides: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def open(self, settings: Any, progress: Progress, quiet: bool = False, spec: Spec | None = None) -> Data:
        """Find, split and decode the data that `settings` describes.

        Args:
            settings: the settings of the data.
            progress: shows the progress.
            quiet: log nothing (set in all but the first process of a run).
            spec: specification of a model, which overrides the settings; None to use the settings.

        Raises:
            DataError: if no data are found, or they do not match the settings.
        """

    def overrides_of_another_source(self, settings: Mapping[str, Any]) -> list[str]:
        """Return the overrides needed to read another source with the data settings of a run."""
        return []

    def fitted(self, spec: Spec) -> str:
        """Describe in one line how other data are converted for a model of `spec`; "" if they are not."""
        return ""

    @abstractmethod
    def read(self, files: Sequence[Path], spec: Spec) -> list[Tensor]:
        """Read files as model inputs, each [C, *size], and log any conversion.

        Raises:
            DataError: naming the first file that cannot be read.
        """

    @abstractmethod
    def write(self, path: Path, x: Tensor, spec: Spec) -> None:
        """Write an example [C, *size] to a file that common programs can open."""

    @abstractmethod
    def save_rows(self, out: Path, title: str, rows: Sequence[Row], spec: Spec, **options: Any) -> Path:
        """Write examples to files for viewing or listening, and return the path to open.

        Args:
            out: the file, or the folder if each example has its own file; the suffix may be left out.
            title: title of the output.
            rows: the examples, grouped into rows.
            spec: specification of the examples.
            options: the modality's own options, from `options`.
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
        """Write several versions of the same examples, such as originals and reconstructions; see `save_rows`.

        Args:
            out: the file or folder.
            title: title of the output.
            names: names of the examples.
            versions: the examples by name of the version; the last version is also written to separate files, if
                examples have files.
            spec: specification of the examples.
            options: the modality's own options, from `options`.
        """

    @abstractmethod
    def show_rows(self, rows: Sequence[Row], spec: Spec, caption: str) -> Block:
        """Return a report block that shows rows of examples."""

    @abstractmethod
    def show_versions(self, versions: Mapping[str, Sequence[Tensor]], spec: Spec, caption: str) -> Block:
        """Return a report block that shows several versions of the same examples next to each other."""

    def suffix_of(self, spec: Spec) -> str:
        """Return the suffix of the files that `write` writes for a model."""
        return self.suffix

    def figures(self, x: Tensor, reconstruction: Tensor, spec: Spec) -> dict[str, Tensor]:
        """Return the modality's own figures of reconstructions [B, C, *size], [B] each.

        Examples for which a figure is not defined have NaN, and are left out of its mean.

        Only modalities with `has_figures` need this; for others nothing is decoded.
        """
        return {}

    def in_own_units(self, figures: Mapping[str, float], examples: Examples) -> dict[str, float]:
        """Return figures of `examples`, such as `bits_per_dim`, in the units of the modality, such as bits per note."""
        return {}

    @abstractmethod
    def describe(self, data: Data, spec: Spec) -> str:
        """Describe in one line the data a model was trained on, for the head of its report."""

    @abstractmethod
    def facts(self, model: Autoencoder, figures: Mapping[str, float]) -> dict[str, str]:
        """Return headline figures of a model by label, for the head of its report."""

    def reconstructions(self, model: Autoencoder, examples: Examples, progress: Progress) -> Iterator[Section] | None:
        """Yield the report sections on reconstructions; None uses the default section."""
        return None

    def sections(self, run: RunFolder, model: Autoencoder, data: Data) -> Iterator[Section]:
        """Yield additional report sections of a run."""
        yield from ()

    def evaluate(
        self,
        run: RunFolder,
        model: Autoencoder,
        data: Data,
        examples: Examples,
        split: str,
        source: str | None,
        progress: Progress,
        **options: Any,
    ) -> dict[str, float]:
        """Return the figures that the modality's own options of `narrows evaluate` ask for."""
        return {}

    def distances(
        self, data: Data, real: Examples, made: Mapping[float, Mapping[str, Sequence[Tensor]]], progress: Progress
    ) -> tuple[dict[float, dict[str, float]], str]:
        """Return the distances of generated examples from real ones, and a caption for the report.

        Only modalities with `has_distances` need this. Their names are `frechet_` and the name of the set.

        Args:
            data: the data that the models were trained on.
            real: examples of the test split.
            made: sets of as many generated examples, such as samples and reconstructions, by name, for each point of a
                curve.
            progress: shows the progress.
        """
        return {point: {} for point in made}, ""

    def accept(self, command: str, options: Mapping[str, Any], whose: str) -> dict[str, Any]:
        """Return the options that were set, after checking that these data have them for the command.

        Raises:
            NarrowsError: naming the first option that they do not have.
        """
        chosen = {name: value for name, value in options.items() if value is not None}
        for name, value in chosen.items():
            if name not in self.options.get(command, ()):
                raise NarrowsError(
                    f"--{name.replace('_', '-')} {value}: {whose} is a model of {self.name}, which has no such option "
                    f"for `narrows {command}`; leave it out"
                )
        return chosen
