"""MIMIC's tables (plain or gzipped CSV), streamed and reduced to labels of ECGs."""
