"""Recipes: what is to be made of a master.

A recipe's identity is the BLAKE3 of its canonical JSON (keys sorted, no spaces,
the name left out), so two names for the same settings are the same recipe, and a
changed setting is another one. The name is a label.
"""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import blake3
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.errors import InvalidRecipe

MAX_RECIPE_BYTES = 64 * 1024
"""A recipe is a page of YAML; anything larger is something else."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VideoSettings(_Frozen):
    """H.264 rungs by the short side of the display picture; rungs above the source are left out."""

    heights: tuple[int, ...] = Field(default=(240, 360, 540, 720, 1080), min_length=1, max_length=12)
    crf: float = Field(default=23.0, ge=0, le=51)
    """x264's constant rate factor, capped by each rung's peak rate (VBV)."""
    preset: Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow"] = "veryfast"
    max_frame_rate: int = Field(default=60, ge=10, le=60)


class AudioSettings(_Frozen):
    """AAC, one stereo rendition for each track of the source."""

    bitrate: int = Field(default=128_000, ge=32_000, le=320_000)


class Recipe(_Frozen):
    """What is to be made; ``publish: false`` keeps the master and makes nothing to play."""

    name: str = Field(default="custom", pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")
    publish: bool = True
    video: VideoSettings | None = VideoSettings()
    """``null`` publishes the sound only."""
    audio: AudioSettings = AudioSettings()
    segment_seconds: int = Field(default=6, ge=2, le=10)
    gop_seconds: int = Field(default=2, ge=1, le=10)
    storyboard: bool = True

    @property
    def identity(self) -> str:
        """The BLAKE3-256 of the canonical JSON, as lower-case hex."""
        return blake3.blake3(self.canonical_json().encode()).hexdigest()

    def gop_frames(self, frame_rate: Fraction) -> int:
        """Return the frames of one GOP at ``frame_rate`` (frames a second): 60 for 2 s of 29.97."""
        return max(1, round(frame_rate * self.gop_seconds))

    def segment_length(self, frame_rate: Fraction) -> Fraction:
        """Return a segment's seconds at ``frame_rate``: whole GOPs, so 6.006 for 6 s of 29.97."""
        gops = max(1, round(Fraction(self.segment_seconds, self.gop_seconds)))
        return Fraction(gops * self.gop_frames(frame_rate)) / frame_rate

    def canonical_json(self) -> str:
        """The settings without the name, as bytes that are the same for equal settings."""
        return json.dumps(
            self.model_dump(mode="json", exclude={"name"}), sort_keys=True, separators=(",", ":"), ensure_ascii=True
        )


BUILT_IN = {
    "web": Recipe(name="web"),
    "archive": Recipe(name="archive", publish=False, video=None, storyboard=False),
    "audio": Recipe(name="audio", video=None, storyboard=False),
}
"""The recipes that need no file: stream everything, keep only, sound only."""


def named(name: str) -> Recipe:
    """Return a built-in recipe; raises ``InvalidRecipe`` for any other name."""
    try:
        return BUILT_IN[name]
    except KeyError:
        raise InvalidRecipe(f"there is no recipe named {name!r}") from None


def parse(body: Any) -> Recipe:
    """Return the recipe that a name or a mapping describes; raises ``InvalidRecipe``."""
    if isinstance(body, str):
        return named(body)
    if not isinstance(body, dict):
        raise InvalidRecipe("a recipe is a name or a mapping of settings")
    try:
        return Recipe.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise InvalidRecipe(f"recipe: {where}: {first['msg']}") from error


def load(name_or_path: str) -> Recipe | str:
    """Return what ``--recipe`` means: a built-in's name unchanged, or the recipe in a YAML file.

    Raises ``InvalidRecipe`` where there is neither.
    """
    if name_or_path in BUILT_IN:
        return name_or_path
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"} or not path.is_file():
        return named(name_or_path).name
    if path.stat().st_size > MAX_RECIPE_BYTES:
        raise InvalidRecipe(f"{path} is too large for a recipe")
    try:
        return parse(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidRecipe(f"{path} is not YAML: {error}") from error
