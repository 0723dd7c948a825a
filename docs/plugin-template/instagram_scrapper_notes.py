"""Writes a Markdown note for each stored post to the folder ``NOTES_FOLDER``."""

import os
from pathlib import Path

from scrapper.errors import SettingsError
from scrapper.library.post import Post
from scrapper.plugins import hookimpl


@hookimpl
def configure() -> None:
    if not Path(os.environ.get("NOTES_FOLDER", "")).is_absolute():
        raise SettingsError("NOTES_FOLDER: set it to the absolute path of a folder")


@hookimpl
def post_stored(post: Post, folder: Path) -> None:
    note = _note_of(post.shortcode)
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(f"# {post.owner}\n\n{post.description}\n\n{folder / post.main.filename}\n")


@hookimpl
def post_removed(shortcode: str) -> None:
    _note_of(shortcode).unlink(missing_ok=True)


def _note_of(shortcode: str) -> Path:
    return Path(os.environ["NOTES_FOLDER"]) / f"{shortcode}.md"
