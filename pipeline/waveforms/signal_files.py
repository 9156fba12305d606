"""Read the header and the signal files of a record."""

from contextlib import suppress

from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.record_files import Content, OutsideRootError, RecordFiles
from pipeline.waveforms.wfdb_header import Header, HeaderError
from pipeline.waveforms.wfdb_samples import bytes_needed, samples_in

_MAX_HEADER_BYTES = 1_000_000


def read_header(files: RecordFiles, record: str) -> bytes:
    """Read the header file of a record.

    Args:
        files: Files of the data set.
        record: Record name without ``.hea``.

    Returns:
        Content of the file.

    Raises:
        UnreadableRecord: The file does not exist, cannot be read, or is outside the data set.
        HeaderError: The file is too large for a header.
        UserError: Requests to a server fail.
    """
    content = _read(files, f"{record}.hea", _MAX_HEADER_BYTES)
    if content.size > _MAX_HEADER_BYTES:
        raise HeaderError(f"header is larger than {_MAX_HEADER_BYTES:,} bytes")
    return content.data


def read_signals(
    files: RecordFiles, record: str, header: Header, length: int
) -> tuple[int, list[bytes]]:
    """Read the beginning of each signal file.

    Args:
        files: Files of the data set.
        record: Name of the record.
        header: Its header.
        length: Number of samples to read per signal.

    Returns:
        The number of samples per signal (less than `length` for a shorter record), and for each
        file the bytes from its start that contain them.

    Raises:
        UnreadableRecord: A file is missing, too short, unreadable or outside the data set.
        UserError: Requests to a server fail.
    """
    folder = record[: record.rfind("/") + 1]
    contents = []
    if header.length is not None:
        length = min(length, header.length)
    for file in header.files:
        expected, limit = bytes_needed(header, file, length)
        content = _read(files, folder + file.name, limit)
        where = files.location(folder + file.name)
        if content.size < expected:
            raise UnreadableRecord(
                "cut_file", f"{where}: file has {content.size} of {expected} bytes; copy it again."
            )
        if header.length is None:
            length = min(length, samples_in(header, file, content.size))
            if length < 1:
                raise UnreadableRecord("cut_file", f"{where}: file has no samples; copy it again.")
        contents.append(content.data)
    return length, contents


def _read(files: RecordFiles, name: str, limit: int) -> Content:
    """Read the beginning of a file; raise UnreadableRecord if that fails."""
    where = files.location(name)
    folder, _, file = name.rpartition("/")
    stem, dot, suffix = file.rpartition(".")
    # Files that were copied from a case-insensitive file system may have names in capitals.
    spellings = (file, stem + dot + suffix.upper(), file.upper(), file.lower())
    try:
        for spelling in dict.fromkeys(spellings):
            with suppress(FileNotFoundError):
                return files.read(f"{folder}/{spelling}" if folder else spelling, limit)
    except OutsideRootError as error:
        raise UnreadableRecord("unreadable", f"{where}: {error}.") from error
    except OSError as error:
        raise UnreadableRecord(
            "unreadable",
            f"{where}: cannot be read ({error.strerror}); copy it again, or exclude the record.",
        ) from error
    raise UnreadableRecord(
        "missing_file", f"{where}: file not found; copy it, or exclude the record."
    )
