"""The expert `measurements`: standard ECG measurements as an embedding, without weights."""
