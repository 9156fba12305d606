"""`enecg doctor`: checks of an installation and of the data set and store of an extraction."""
