from pathlib import Path

import pytest
import yaml

from narrows.config import ModelRecipe, resolve
from narrows.errors import NarrowsError
from narrows.modalities.recipes import resolve_training
from narrows.recipe import RecipeError, find_recipe


def test_a_variant_lays_its_settings_over_the_recipe(tiny: Path) -> None:
    recipe = find_recipe(str(tiny))
    values = resolve_training(recipe.variant("vae")).values
    assert values.model.init_args.bottleneck.init_args.as_dict() == {"channels": 2}  # nothing of the VectorQuantizer's
    assert values.model.init_args.encoder.init_args.width == 8
    assert resolve_training(recipe.variant(None)).values.model.init_args.bottleneck.init_args.codebook_size == 8


def test_a_mapping_of_values_is_replaced_whole() -> None:
    """The layers of each resolution are one setting: a variant does not keep resolutions that it does not name."""
    settings = find_recipe("hvae-svhn").variant("cpu-28")
    layers = resolve_training(settings).values.model.init_args.bottleneck.init_args.layers
    assert {int(resolution) for resolution in layers} == {1, 7, 14, 28}


def test_overrides_reach_the_built_objects(tiny: Path) -> None:
    overrides = ["--model.encoder.width=6", "--training.betas=[0.8,0.9]", "--estimator=ImportanceWeighted"]
    built = resolve_training(find_recipe(str(tiny)).settings, [*overrides, "--estimator.samples=3"]).build()
    assert built.model((1, 8, 8)).encoder.layers[0].out_channels == 6
    assert built.training.betas == (0.8, 0.9)
    assert built.estimator.samples == 3


def test_what_was_resolved_resolves_to_itself(tiny: Path) -> None:
    once = resolve_training(find_recipe(str(tiny)).settings).yaml
    assert resolve_training(yaml.safe_load(once)).yaml == once


def test_unknown_parts_of_a_recipe_are_named(tiny: Path) -> None:
    settings = find_recipe(str(tiny)).settings
    with pytest.raises(
        RecipeError, match="unknown setting 'trainin'; the settings are model, estimator, data, training"
    ):
        resolve_training({**settings, "trainin": {}})
    with pytest.raises(RecipeError, match="stps"):
        resolve_training({**settings, "training": {"stps": 3}})
    with pytest.raises(NarrowsError, match="modality is 'smells'; it must be one of images, sound"):
        resolve_training({**settings, "modality": "smells"})
    with pytest.raises(RecipeError, match="model"):
        resolve(ModelRecipe, {})


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    for text, message in (("a: [", "cannot be read"), ("- a", "not a YAML mapping")):
        path.write_text(text)
        with pytest.raises(RecipeError, match=message):
            find_recipe(str(path))
    with pytest.raises(RecipeError, match="cannot be read"):
        find_recipe(str(tmp_path / "missing.yaml"))
