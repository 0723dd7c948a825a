"""Shortcodes and the media IDs that they encode."""

from typing import NamedTuple

from scrapper.links import SHORTCODE_ALPHABET

__all__ = ["Shortcode"]

_DIGITS = {letter: value for value, letter in enumerate(SHORTCODE_ALPHABET)}
_KEY_LENGTH = 28
_MIN_LENGTH = 5


class Shortcode(NamedTuple):
    """A post's shortcode as it appears in a link.

    In links to posts of private accounts, the code is followed by a key of 28 characters, for a
    total of 39 characters. Instagram's answers contain the code without the key.
    """

    text: str

    @property
    def code(self) -> str:
        """The shortcode without the key that private posts have."""
        bare = self.text[:-_KEY_LENGTH]
        return bare if len(bare) >= _MIN_LENGTH else self.text

    @property
    def media_id(self) -> int:
        """Instagram's ``pk``: the code read as a base 64 number with the digits ``A-Za-z0-9-_``."""
        number = 0
        for letter in self.code:
            number = number * len(SHORTCODE_ALPHABET) + _DIGITS[letter]
        return number
