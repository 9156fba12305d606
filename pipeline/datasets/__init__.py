"""Data sets, one module per source, behind the protocol in `base`."""
