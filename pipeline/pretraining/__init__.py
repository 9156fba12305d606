"""Self-supervised pretraining of an expert on the waveforms of a data set."""
