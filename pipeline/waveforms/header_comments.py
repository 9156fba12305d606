"""Fields about the patient in the comments of WFDB headers."""

import re

from pipeline.waveforms.wfdb_header import is_comment, split_lines

COMMENT_FIELDS = ("age", "sex", "dx", "rx", "hx", "sx")
"""Age, sex, diagnoses, prescriptions, history and symptoms.

Headers of the PhysioNet/CinC challenges of 2020 and 2021 contain one line per field, such as
``#Age: 56`` or ``# Age: 56``.
"""

# The form `#<age>: 65 <sex>: F <diagnoses> ...` of the WFDB library, on one or several lines.
_TAG = re.compile(r"<(\w++)>\s*+:?([^<]*+)")
_FIELD = re.compile(r"\s*+#[#\s]*+(\w++)\s*+[:=](.*+)")


def parse_comments(content: bytes) -> dict[str, str]:
    """Parse the fields about the patient in a header.

    Args:
        content: Content of a header file. Lines other than comments are ignored.

    Returns:
        The text of each field of `COMMENT_FIELDS` that is in the header and not empty. Different
        texts of the same field are joined by ``", "``.
    """
    texts_by_field: dict[str, dict[str, None]] = {}
    for line in filter(is_comment, split_lines(content)):
        field = _FIELD.fullmatch(line)
        for name, text in _TAG.findall(line) if field is None else [field.groups()]:
            if name.lower() in COMMENT_FIELDS and text.strip():
                texts_by_field.setdefault(name.lower(), {})[text.strip()] = None
    return {name: ", ".join(texts) for name, texts in texts_by_field.items()}
