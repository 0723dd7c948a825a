"""Opening, checking and cleaning up the media folder."""

from pathlib import Path

import pytest

from scrapper.errors import MediaFolderGone, SettingsError
from scrapper.library.root import MediaRoot


def test_an_unused_media_folder_is_cleaned_up_on_close(tmp_path: Path) -> None:
    one, other = (MediaRoot(tmp_path, shared=True) for _ in range(2))
    one.open()
    other.open()
    assert (one.was_unused, other.was_unused) == (True, False)
    one.close_and_clean_up()
    assert (tmp_path / ".state").exists()
    other.close_and_clean_up()
    assert list(tmp_path.iterdir()) == []


def test_a_replaced_media_folder_is_detected(tmp_path: Path) -> None:
    root = MediaRoot(tmp_path / "media")
    root.open()
    root.check()
    root.path.rename(tmp_path / "unplugged")
    for _ in range(2):
        with pytest.raises(MediaFolderGone):
            root.check()
        root.path.mkdir(exist_ok=True)
    with pytest.raises(SettingsError):
        MediaRoot(tmp_path / "unplugged").open()


@pytest.mark.parametrize("folder", ["/proc/posts", "/sys/posts", "/proc/self/fd/999/posts"])
def test_the_error_names_a_folder_that_cannot_be_created(folder: str) -> None:
    for use in (MediaRoot(Path(folder)).open, MediaRoot(Path(folder)).create):
        with pytest.raises(SettingsError, match=f"^MEDIA_ROOT: {folder} cannot be created"):
            use()
