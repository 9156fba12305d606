"""Tables, plots and HTML pages of runs, evaluations and sweeps."""
