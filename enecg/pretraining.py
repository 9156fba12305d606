"""Metadata on the patients on whose ECGs weights were pretrained."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from enecg.errors import UserError

METADATA_KEY = "pretraining"
"""Key of `Pretraining` in the metadata of a safetensors file and in the provenance of a store."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Pretraining:
    """The patients on whose ECGs weights were pretrained. Part of the identity of stores.

    Attributes:
        dataset: Namespace of the data set, such as ``mimic-iv-ecg/1.0``.
        patients: Number of patients.
        patients_sha256: Hexadecimal SHA-256 of the file that lists the patients.
    """

    dataset: str
    patients: int
    patients_sha256: str

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: object, where: object) -> Self:
        """Parse JSON values.

        Args:
            value: The parsed JSON.
            where: File or store that contains the values, for the error message.

        Returns:
            The metadata.

        Raises:
            UserError: A field is missing or invalid.
        """
        fields = dict(value) if isinstance(value, Mapping) else {}
        dataset, patients = fields.get("dataset"), fields.get("patients")
        digest = fields.get("patients_sha256")
        if not (
            isinstance(dataset, str)
            and isinstance(patients, int)
            and patients > 0
            and isinstance(digest, str)
            and _SHA256.fullmatch(digest)
        ):
            raise UserError(
                f"{where}: the pretraining metadata is damaged, so pretraining patients cannot be "
                "excluded from the test patients; use other weights."
            )
        return cls(dataset, patients, digest)
