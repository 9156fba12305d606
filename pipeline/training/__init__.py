"""Stage two: heads and gate from the stores alone."""
