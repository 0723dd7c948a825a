"""Reads Instagram's DASH manifests (ISO 23009-1), which list complete video and audio files.

A manifest is untrusted XML. It is parsed as a stream, and refused if it is larger than 1 MB, has
more than 100 representations, or declares a document type, which could define entities or refer to
other files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["MAX_MANIFEST_BYTES", "MAX_REPRESENTATIONS", "Representation", "read_manifest"]

MAX_MANIFEST_BYTES = 1_000_000
MAX_REPRESENTATIONS = 100

_MAX_PIXELS = 100_000
_MAX_NUMBER = 10**15
_MAX_URL = 5_000
_NUMBER = re.compile(r"[0-9]{1,15}")
_CODECS = {"avc": "h264", "vp09": "vp9", "vp9": "vp9", "av01": "av1", "hvc": "hevc", "hev": "hevc"}
_LEVELS = ("Period", "AdaptationSet", "Representation")
_SOUNDS = ("mp4a", "opus")
_SIZES = ("width", "height", "bandwidth", "FBContentLength")
_ATTRIBUTES = ("mimeType", "contentType", "codecs", *_SIZES)
_MAX_DEPTH = 20
# A BaseURL next to one of these elements does not lead to a playable file.
_UNUSABLE = ("ContentProtection", "SegmentTemplate", "SegmentList")


@dataclass(frozen=True, slots=True)
class Representation:
    """A video or audio file as described in a manifest.

    ``url`` is not validated. ``bit_rate`` is in bits per second, ``size`` in bytes. Values that the
    manifest lacks are None.
    """

    type: Literal["video", "audio"]
    url: str
    codec: str | None
    """``h264``, ``vp9``, ``av1`` or ``hevc``; for audio, the manifest's ``codecs`` value."""
    width: int | None
    height: int | None
    bit_rate: int | None
    size: int | None


def read_manifest(text: str) -> list[Representation]:
    """Return the representations that are whole video or audio files, in the manifest's order.

    Raises:
        ValueError: the text is not a manifest, or exceeds the limits.
    """
    if len(text) > MAX_MANIFEST_BYTES:
        raise ValueError("larger than 1 MB")
    data = text.strip().encode("utf-8", "replace")
    if len(data) > MAX_MANIFEST_BYTES:
        raise ValueError("larger than 1 MB")
    from xml.parsers import expat  # noqa: PLC0415

    reader = _Reader()
    # The text is already decoded, so the encoding that the manifest declares does not matter.
    parser = expat.ParserCreate("utf-8")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_doctype
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise ValueError(f"not XML: {error}") from None
    return reader.found


def _refuse_doctype(*_: object) -> None:
    raise ValueError("it declares a document type")


@dataclass(slots=True)
class _Open:
    """An open XML element, with its own attributes and those that it inherits.

    ``before`` is the number of representations found before this element began.
    """

    name: str
    attributes: Mapping[str, str]
    before: int
    url: str | None = None
    usable: bool = True


@dataclass(slots=True)
class _Reader:
    """Reads one manifest, element by element."""

    found: list[Representation] = field(default_factory=list)
    _open: list[_Open] = field(default_factory=list)
    _read: int = 0
    _periods: int = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(":")[2]
        parent = self._open[-1] if self._open else None
        if parent is None and name != "MPD":
            raise ValueError(f"not a manifest, but {name[:100]!r}")
        if name == "MPD" and attributes.get("type") == "dynamic":
            raise ValueError("it describes a live video")
        if name == "Period":
            self._periods += 1
        if name == "Representation":
            self._read += 1
        if self._periods > 1 or self._read > MAX_REPRESENTATIONS:
            raise ValueError("more than one period, or too many representations")
        if len(self._open) > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        if parent is not None and name in _UNUSABLE:
            parent.usable = False
        known: dict[str, str] = {}
        if name in _LEVELS:
            # If all attributes were kept, thousands of elements could inherit a megabyte each.
            known = {key: attributes[key] for key in _ATTRIBUTES if key in attributes}
            known = {**(parent.attributes if parent else {}), **known}
        self._open.append(_Open(name, known, len(self.found)))

    def text(self, text: str) -> None:
        element = self._open[-1]
        if element.name == "BaseURL":
            element.url = ((element.url or "") + text)[:_MAX_URL]

    def end(self, _name: str) -> None:
        element = self._open.pop()
        parent = self._open[-1] if self._open else None
        if element.name == "BaseURL" and parent is not None:
            parent.url = parent.url or (element.url or "").strip()
        elif element.name == "Representation" and element.url:
            representation = _representation(element.attributes, element.url)
            if representation is not None:
                self.found.append(representation)
        if not element.usable:
            # The element that makes these representations unusable may come after them.
            del self.found[element.before :]


def _representation(attributes: Mapping[str, str], url: str) -> Representation | None:
    codecs = attributes.get("codecs", "").strip().lower()
    codec = next((name for start, name in _CODECS.items() if codecs.startswith(start)), None)
    named = [attributes.get(key, "").lower() for key in ("mimeType", "contentType")]
    # Some audio and video files have the type "application", so only the codec shows their kind.
    named = [name for name in named if name and not name.startswith("application/")]
    kind = named[0].strip().partition("/")[0] if named else _kind_by_codec(codec, codecs)
    if kind not in ("video", "audio"):
        return None
    return Representation(
        type="video" if kind == "video" else "audio",
        url=url,
        codec=codec if kind == "video" else codecs[:100] or None,
        width=_number(attributes.get("width"), _MAX_PIXELS),
        height=_number(attributes.get("height"), _MAX_PIXELS),
        bit_rate=_number(attributes.get("bandwidth"), _MAX_NUMBER),
        size=_number(attributes.get("FBContentLength"), _MAX_NUMBER),
    )


def _kind_by_codec(codec: str | None, codecs: str) -> str | None:
    if codec is not None:
        return "video"
    return "audio" if codecs.startswith(_SOUNDS) else None


def _number(text: str | None, maximum: int) -> int | None:
    if text is None or not _NUMBER.fullmatch(text.strip()):
        return None
    number = int(text)
    return number if 1 <= number <= maximum else None
