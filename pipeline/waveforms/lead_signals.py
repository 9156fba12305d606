"""The twelve leads of a record as recorded: in mV, before quality checks and resampling."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Integer

from enecg.ecg_format import SECONDS
from pipeline.waveforms.directory_files import DirectoryFiles
from pipeline.waveforms.errors import UnreadableRecord
from pipeline.waveforms.lead_selection import (
    LeadSelection,
    MissingLeadsError,
    parse_lead,
    select_leads,
)
from pipeline.waveforms.options import DEFAULT_OPTIONS, DecodeOptions
from pipeline.waveforms.record_files import RecordFiles
from pipeline.waveforms.signal_files import read_header, read_signals
from pipeline.waveforms.wfdb_header import HeaderError, parse_header, parse_integer
from pipeline.waveforms.wfdb_samples import digital_samples

MIN_RATE_HZ, MAX_RATE_HZ = 100, 2000
"""Range of supported sampling rates."""


@dataclass(frozen=True)
class LeadSignals:
    """The twelve leads of a record before quality checks and resampling.

    Attributes:
        location: Path or URL of the record without suffix, or the name of an array.
        mv: Up to the first ten seconds in mV, leads in the order of `LEADS`; NaN marks missing
            samples.
        digital: The same samples of the recorded leads in ADC units; no samples for an array.
        rate_hz: Sampling rate in Hz.
        names: Names of all signals of the record, as spelled in the header.
        derived: Leads that were computed from other leads.
        repeated: Lead of each signal whose samples equal those of an earlier signal of that lead.
        checksum_mismatches: Leads whose samples do not match the header's checksum.
    """

    location: str
    mv: Float32[np.ndarray, "12 time"]
    digital: Integer[np.ndarray, "lead file_time"]
    rate_hz: float
    names: tuple[str, ...]
    derived: tuple[str, ...]
    repeated: tuple[str, ...]
    checksum_mismatches: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Duration of the samples in s, at most about 10."""
        return float(self.mv.shape[1] / self.rate_hz)

    @property
    def is_short(self) -> bool:
        """Whether the record is shorter than 10 s."""
        return bool(self.mv.shape[1] < full_length(self.rate_hz))


def read_leads(
    record: str | Path,
    files: RecordFiles | None = None,
    *,
    units_per_mv: float | None = None,
    options: DecodeOptions = DEFAULT_OPTIONS,
) -> LeadSignals:
    """Read the twelve leads of a record: the first stage of `decode.read_wfdb`.

    Args:
        record: Record name without ``.hea`` in `files`; a local path if `files` is None.
        files: Files of the data set.
        units_per_mv: As for `decode.read_wfdb`.
        options: Decoding options; only `derive_leads` is used.

    Returns:
        The samples as recorded. Samples may be missing, and leads may be flat.

    Raises:
        UnreadableRecord: The reason is ``missing_file``, ``cut_file``, ``unreadable``,
            ``missing_lead`` or ``duplicate_lead``.
        UserError: As for `decode.read_wfdb`.
    """
    name, files = _split_path(record, files)
    where = files.location(name)
    try:
        header = parse_header(read_header(files, name))
        rate = check_rate(header.rate_hz)
        selection = select_leads(header.signals, units_per_mv, options.derive_leads)
        names = header.signals.names
        header, rows = header.keep(selection.rows)
        length, contents = read_signals(files, name, header, full_length(rate))
        digital = digital_samples(header, length, contents)[rows]
        # Parse the checksums even if they are not compared below, to detect invalid ones.
        checksums = [parse_integer(header.checksums[row]) for row in rows]
    except HeaderError as error:
        raise UnreadableRecord(
            "unreadable", f"{where}.hea: {error}; {error.remedy}, or exclude the record."
        ) from error
    except MissingLeadsError as error:
        raise UnreadableRecord(
            "missing_lead", f"{where}.hea: {error}; {error.remedy}, or exclude the record."
        ) from error
    mv = selection.to_millivolts(digital)
    check_repeated_leads(selection, mv, names, f"{where}.hea")
    recorded = digital[: selection.recorded]
    return LeadSignals(
        location=where,
        mv=selection.to_twelve(mv),
        digital=recorded,
        rate_hz=rate,
        names=names,
        derived=tuple(derivation.lead for derivation in selection.derivations),
        repeated=selection.leads[selection.recorded :],
        # Checksums cover whole signals, so compare them only if all samples were read.
        checksum_mismatches=_checksum_mismatches(checksums, selection.leads, recorded)
        if length == header.length
        else (),
    )


def check_repeated_leads(
    selection: LeadSelection,
    mv: Float32[np.ndarray, "signal time"],
    names: Sequence[str],
    where: str,
) -> None:
    """Raise UnreadableRecord if signals of the same lead have different samples.

    Args:
        selection: The selected signals.
        mv: Their samples.
        names: Names of all signals of the record.
        where: Header or array, for the message.

    Raises:
        UnreadableRecord: The reason is ``duplicate_lead``.
    """
    if contradictions := selection.find_contradictions(mv):
        spellings = ", ".join(n for n in names if parse_lead(n)[0] in contradictions)
        raise UnreadableRecord(
            "duplicate_lead",
            f"{where}: several signals of lead {', '.join(contradictions)} ({spellings}) have "
            "different samples; rename or remove all but one, or exclude the record.",
        )


def check_rate(rate_hz: float) -> float:
    """Return the sampling rate; raise HeaderError if it is not supported."""
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise HeaderError(
            f"sampling rate is {rate_hz:g} Hz, not {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz",
            "resample the record",
        )
    return rate_hz


def full_length(rate_hz: float) -> int:
    """Return the number of samples in ten seconds."""
    return round(SECONDS * rate_hz)


def _checksum_mismatches(
    checksums: Sequence[int | None],
    leads: Sequence[str],
    digital: Integer[np.ndarray, "lead time"],
) -> tuple[str, ...]:
    """Return the leads whose samples have a sum modulo 65536 that differs from the checksum."""
    if not any(checksums):
        # Programs without checksum support write 0 for every signal.
        return ()
    # Overflow in the samples' own dtype does not change the sum modulo 65536.
    sums = np.add.reduce(digital, axis=1, dtype=digital.dtype).tolist()
    return tuple(
        lead
        for lead, expected, total in zip(leads, checksums, sums, strict=False)
        if expected is not None and (expected - total) % 65536
    )


def _split_path(record: str | Path, files: RecordFiles | None) -> tuple[str, RecordFiles]:
    if files is not None:
        return str(record), files
    path = Path(record)
    return path.name, DirectoryFiles(path.parent)
