"""Find symbolic links in a store root."""

from contextlib import suppress

from stores.errors import translate_errors
from stores.layout import dataset_folders, list_folders
from stores.local import LocalRoot
from stores.location import Location


def find_links(root: Location) -> list[tuple[Location, str]]:
    """Find symbolic links below the folders of data sets.

    EnECG does not follow them, and removes one only with a garbage folder that contains it.

    Args:
        root: The store root.

    Returns:
        Location and target of each link, sorted by location.

    Raises:
        StoreError: The root cannot be read.
    """
    links: list[tuple[Location, str]] = []
    if not isinstance(root.root, LocalRoot):
        return links
    with translate_errors(root):
        # `find_garbage` reports the folders that this user may not list.
        folders = [*dataset_folders(root, [])]
        while folders:
            folder = folders.pop()
            with suppress(PermissionError):
                links += [(folder / name, target) for name, target in root.root.links(folder.key)]
            folders += list_folders(folder, [])
    return sorted(links, key=lambda link: str(link[0]))
