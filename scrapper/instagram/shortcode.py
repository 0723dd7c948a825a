"""A shortcode, and the number that it stands for."""

from typing import NamedTuple

from scrapper.links import SHORTCODE_ALPHABET

__all__ = ["Shortcode"]

_DIGITS = {letter: value for value, letter in enumerate(SHORTCODE_ALPHABET)}
_KEY_LENGTH = 28
_MIN_LENGTH = 5


class Shortcode(NamedTuple):
    """A post's shortcode, as written in its link.

    Links to posts of private accounts have a key of 28 further characters after the code, 39 in
    all. Instagram's answers name the post by the code alone.
    """

    text: str

    @property
    def code(self) -> str:
        """The shortcode without a private link's key."""
        bare = self.text[:-_KEY_LENGTH]
        return bare if len(bare) >= _MIN_LENGTH else self.text

    @property
    def media_id(self) -> int:
        """The number that the code is in base 64, digits ``A-Za-z0-9-_``: Instagram's ``pk``."""
        number = 0
        for letter in self.code:
            number = number * len(SHORTCODE_ALPHABET) + _DIGITS[letter]
        return number
