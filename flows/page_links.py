"""Links to files of runs on a web server."""

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

ROOT_VARIABLE = "ENECG_PAGES_ROOT"
"""Environment variable with the folder that `enecg runs serve` serves."""
URL_VARIABLE = "ENECG_PAGES_URL"
"""Environment variable with the URL of that folder."""


def served_folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder that is served; None unless the variables of folder and URL are set."""
    if environ.get(ROOT_VARIABLE) and environ.get(URL_VARIABLE):
        return Path(environ[ROOT_VARIABLE])
    return None


def page_link(file: Path, environ: Mapping[str, str]) -> str | None:
    """Return the URL of a file.

    Args:
        file: The file.
        environ: Environment variables.

    Returns:
        The URL, or None if no folder is served or the file is not in it.
    """
    folder = served_folder(environ)
    if folder is None:
        return None
    try:
        path = file.expanduser().resolve().relative_to(folder.expanduser().resolve())
    except ValueError:
        return None
    return f"{environ[URL_VARIABLE].rstrip('/')}/{quote(path.as_posix())}"
