"""Options of decoding. This module does not import numpy, to keep the command line fast."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from enecg.checked_fields import check_fields

ShortRecords = Literal["refuse", "mirror"]


@dataclass(frozen=True)
class DecodeOptions:
    """Options for decoding short records and records with missing leads.

    Both options are part of a store's identity.

    Attributes:
        short_records: ``refuse`` excludes records shorter than 10 s; ``mirror`` excludes records
            shorter than 5 s, and extends those of 5 to 10 s by a mirrored copy of their end.
        derive_leads: Whether missing limb leads are computed from two recorded limb leads.

    Raises:
        UserError: A value is invalid.
    """

    short_records: ShortRecords = "refuse"
    derive_leads: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "DecodeOptions":
        """Return the options in a store's provenance, with defaults for missing fields."""
        names = (field.name for field in fields(cls))
        return cls(**{name: document[name] for name in names if name in document})

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, as they are stored in a store's provenance."""
        return asdict(self)

    def as_arguments(self) -> tuple[str, ...]:
        """Return the command-line options that differ from the defaults."""
        short = (f"--short-records {self.short_records}",) if self.short_records != "refuse" else ()
        return (*short, *(("--derive-leads",) if self.derive_leads else ()))


DEFAULT_OPTIONS = DecodeOptions()
