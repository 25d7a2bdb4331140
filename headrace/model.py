"""Frozen values that travel between the stages; no stage invents its own.

Times are seconds (float), sizes bytes, bit rates bits per second, geometry pixels.
Anything that comes from a file (titles, languages, codec names) is untrusted text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from pathlib import Path


class ItemState(StrEnum):
    """Where an item is (DESIGN.md, the command line); the last four are final."""

    QUEUED = "queued"
    DOWNLOADING = "downloading"
    STORING = "storing"
    TRANSCODING = "transcoding"
    PUBLISHING = "publishing"
    PUBLISHED = "published"
    STORED = "stored"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether an item in this state needs no more work."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({ItemState.PUBLISHED, ItemState.STORED, ItemState.FAILED, ItemState.CANCELLED})


class PublicationState(StrEnum):
    """Where a publication is; all but ``retired`` count as *the* one of its asset and recipe."""

    PENDING = "pending"
    WORKING = "working"
    LIVE = "live"
    FAILED = "failed"
    RETIRED = "retired"


class SourceKind(StrEnum):
    """How a source's bytes are reached."""

    URL = "url"
    UPLOAD = "upload"
    ASSET = "asset"
    S3 = "s3"
    FILE = "file"


class MediaKind(StrEnum):
    """What a master holds, as far as playing it goes."""

    VIDEO = "video"
    AUDIO = "audio"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Source:
    """Where bytes come from, parsed; ``source.parse`` makes it."""

    kind: SourceKind
    locator: str
    """The URL with its credentials, or the id of an upload or asset."""
    shown: str
    """What people and logs may see: no user info, and no values in the query."""
    name: str
    """The last part of the path, decoded; a label, never a path."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """The digests of a file's consecutive pieces, from its beginning."""

    algorithm: str
    """One of ``download.proof.ALGORITHMS``."""
    length_bytes: int
    """Of each piece but the last, which is the rest and may be shorter."""
    values: tuple[str, ...]
    """Lower-case hex."""

    @property
    def label(self) -> str:
        """How it is recorded once all of them hold, as ``sha256-pieces:metalink``."""
        return f"{self.algorithm}-pieces:metalink"

    def make_up(self, size_bytes: int) -> bool:
        """Return whether there are as many as a file of this size has."""
        return len(self.values) == -(-size_bytes // self.length_bytes)


@dataclass(frozen=True, slots=True)
class Terms:
    """How a source is to be fetched beside its address, and what its bytes must be (``headrace.terms``)."""

    mirrors: tuple[str, ...] = ()
    """Other URLs of the same file."""
    digests: tuple[tuple[str, str], ...] = ()
    """Algorithm and lower-case hex of the whole, beside the order's SHA-256."""
    size_bytes: int | None = None
    pieces: Pieces | None = None
    credential: str | None = None
    """The name of what the settings keep for it (``headrace.download.access``)."""


@dataclass(frozen=True, slots=True)
class Digests:
    """A content's names: lower-case hex of BLAKE3-256 and SHA-256, and its length."""

    blake3: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a piece of work is."""

    fraction: float | None
    """0 to 1, or ``None`` while the whole is unknown."""
    speed: float | None = None
    """Bytes a second for transfers; times real time for encodes."""
    eta_seconds: float | None = None
    connections: int | None = None
    """Of a download, at the moment."""
    done_bytes: int | None = None
    """Of a transfer; what an earlier attempt left counts."""
    size_bytes: int | None = None
    """Of the whole, or ``None`` where nobody knows."""
    checked_bytes: int | None = None
    """Everything is there, and so much of it has been read again to compare and hash it."""


OnProgress = Callable[[Progress], None]
"""Called often from the working thread; a receiver throttles for itself."""


@dataclass(frozen=True, slots=True)
class VideoStream:
    """One picture stream as ``ffprobe`` sees it."""

    index: int
    """ffmpeg's stream index (``-map 0:index``)."""
    codec: str
    width: int
    """Coded width, before rotation and sample aspect ratio."""
    height: int
    sample_aspect_ratio: Fraction
    rotation: int
    """Degrees clockwise that a player turns the picture: 0, 90, 180 or 270."""
    frame_rate: Fraction | None
    """Average frames a second; ``None`` where the container doesn't say anything usable."""
    pixel_format: str
    bit_depth: int
    color_transfer: str | None
    """``smpte2084`` (PQ) and ``arib-std-b67`` (HLG) are HDR."""
    color_primaries: str | None
    color_space: str | None
    color_range: str | None
    field_order: str | None
    duration_seconds: float | None
    bit_rate: int | None

    @property
    def display_size(self) -> tuple[int, int]:
        """Width and height as a viewer sees them: sample aspect ratio first, then rotation."""
        width, height = self.width, self.height
        if self.sample_aspect_ratio > 1:
            width = round(width * self.sample_aspect_ratio)
        elif self.sample_aspect_ratio < 1:
            height = round(height / self.sample_aspect_ratio)
        return (height, width) if self.rotation in {90, 270} else (width, height)

    @property
    def is_hdr(self) -> bool:
        """Whether the picture must be tone-mapped for an ordinary screen."""
        return self.color_transfer in {"smpte2084", "arib-std-b67"}

    @property
    def is_interlaced(self) -> bool:
        """Whether the container declares fields rather than frames."""
        return self.field_order in {"tt", "bb", "tb", "bt"}


@dataclass(frozen=True, slots=True)
class AudioStream:
    """One sound stream."""

    index: int
    codec: str
    channels: int
    sample_rate: int
    language: str | None
    """BCP 47 or ISO 639-2 as the file says, or ``None`` where it says nothing or ``und``."""
    title: str | None
    default: bool
    duration_seconds: float | None


@dataclass(frozen=True, slots=True)
class SubtitleStream:
    """One subtitle stream; ``text`` ones can become WebVTT, bitmap ones can't."""

    index: int
    codec: str
    text: bool
    language: str | None
    title: str | None


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What ``probe()`` found in a file; the streams in file order, cover pictures left out."""

    container: str
    """ffprobe's ``format_name``, such as ``mov,mp4,m4a,3gp,3g2,mj2``."""
    media_type: str
    """The MIME type that the original is served with."""
    kind: MediaKind
    duration_seconds: float | None
    bit_rate: int | None
    size_bytes: int
    video: tuple[VideoStream, ...] = ()
    audio: tuple[AudioStream, ...] = ()
    subtitles: tuple[SubtitleStream, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendition:
    """One encoded stream of a publication, as it was measured after packaging."""

    name: str
    """Such as ``720p``, ``audio-1``; unique in its publication, and its file's stem."""
    kind: str
    """``video``, ``audio`` or ``text``."""
    file: str
    codec: str
    """RFC 6381, such as ``avc1.64001f``."""
    bitrate: int
    """Average bits a second."""
    size_bytes: int
    width: int | None = None
    height: int | None = None
    frame_rate: float | None = None
    language: str | None = None
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class EncodedTrack:
    """One elementary track that the encoder left in the work folder, not yet packaged."""

    name: str
    kind: str
    path: Path
    language: str | None = None
    title: str | None = None
    default: bool = False
    width: int | None = None
    height: int | None = None
    frame_rate: Fraction | None = None
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """All that ``transcode`` made from one master."""

    tracks: tuple[EncodedTrack, ...]
    duration_seconds: float
    poster: Path | None = None
    storyboard: tuple[Path, ...] = ()
    """The sprite (JPEG) and its WebVTT, or empty."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PackagedSet:
    """A folder that plays: what ``package`` wrote and ``publish`` uploads."""

    folder: Path
    renditions: tuple[Rendition, ...]
    hls: str
    """The multivariant playlist's file name."""
    dash: str
    files: tuple[str, ...]
    """Every file, relative to ``folder``, media first and manifests last."""
    duration_seconds: float
    poster: str | None = None
    storyboard: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StoredMaster:
    """Where the vault keeps a content."""

    blake3: str
    size_bytes: int
    stored_bytes: int
    kind: str
    """``raw`` or ``zstd``."""
    reason: str
    """Why it was compressed or not."""
    object_key: str


@dataclass(frozen=True, slots=True)
class Downloaded:
    """A finished download."""

    path: Path
    size_bytes: int
    sums: dict[str, str]
    """Lower-case hex by algorithm: those that were asked for, and those that were promised."""
    media_type: str | None
    """What the server said, or ``None``; never believed for anything but a label."""
    name: str | None
    """From ``Content-Disposition`` or the final URL; a label, never a path."""
    resumed_bytes: int = 0
    """How many bytes an earlier attempt had left."""
    proofs: tuple[str, ...] = ()
    """Which checks the bytes passed, such as ``content-length`` or ``sha256:order``."""
    restarts: int = 0
    """How often the source became another file meanwhile, and the download began again."""
    kept: bool = False
    """Whether it was there already, and nothing was downloaded."""

    @property
    def digests(self) -> Digests:
        """The content's names; both must have been asked for."""
        return Digests(self.sums["blake3"], self.sums["sha256"], self.size_bytes)
