"""Read WFDB records, decode them to twelve leads, and examine their signal quality."""
