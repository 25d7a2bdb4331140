"""Recipes: their identity is their settings, whatever their name."""

from __future__ import annotations

import pytest

from headrace import recipe
from headrace.errors import InvalidRecipe


def test_the_name_is_only_a_label():
    """The same settings under another name are the same recipe; another setting is another one."""
    web = recipe.named("web")
    assert recipe.parse({"name": "mine"}).identity == web.identity
    assert recipe.parse({"segment_seconds": 4}).identity != web.identity


def test_the_canonical_json_comes_back():
    """What the catalogue keeps is the recipe again."""
    web = recipe.named("web")
    again = recipe.Recipe.model_validate_json(web.canonical_json())
    assert again.identity == web.identity


@pytest.mark.parametrize(
    "body",
    ["nope", "", 5, [], {"heights": [1]}, {"video": {"heights": []}}, {"segment_seconds": 1}, {"name": "../x"}],
)
def test_what_is_no_recipe_is_refused(body):
    """With the field that is wrong."""
    with pytest.raises(InvalidRecipe):
        recipe.parse(body)


def test_a_recipe_file(tmp_path):
    """YAML with the same fields; a missing or broken file is an unknown recipe."""
    path = tmp_path / "small.yaml"
    path.write_text("name: small\nvideo: {heights: [240]}\n")
    loaded = recipe.load(str(path))
    assert loaded.video.heights == (240,)
    assert recipe.load("web") == "web"
    for text in ("{", "- a", "name: [1]"):
        path.write_text(text)
        with pytest.raises(InvalidRecipe):
            recipe.load(str(path))
    with pytest.raises(InvalidRecipe):
        recipe.load(str(tmp_path / "missing.yaml"))
