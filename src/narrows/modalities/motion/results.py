"""The folder that a command writes its motions to: numbered files, and a page that plays them."""

from __future__ import annotations

import re
from pathlib import Path

from narrows.report.page import Block, Page, Section, write_page

__all__ = ["remove_earlier", "write_motion_page"]

FILMS = (".gif", ".mp4")
PAGE = "index.html"


def remove_earlier(folder: Path, *suffixes: str) -> None:
    """Remove the numbered files of an earlier run of a command, such as 003.bvh and 003.gif, from its folder.

    Folders without a page are left as they are, since a command never wrote to them.

    Args:
        folder: the folder; it need not exist.
        suffixes: the suffixes of the files, besides those of films.
    """
    if (folder / PAGE).is_file():
        for path in folder.iterdir():
            if re.fullmatch(r"\d{3,}", path.stem) and path.suffix in (*suffixes, *FILMS):
                path.unlink()


def write_motion_page(folder: Path, title: str, block: Block) -> Path:
    """Write the page of a folder with one section, on its motions, and return its path."""
    write_page(folder / PAGE, Page(title, sections=[Section("Motions", blocks=[block])]))
    return folder / PAGE
