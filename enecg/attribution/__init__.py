"""Attribution of an output to the samples of an ECG and to the waves of its beats."""
