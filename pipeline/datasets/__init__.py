"""Sources of ECGs, one a file, behind one protocol."""
