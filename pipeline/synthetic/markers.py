"""Files that mark a data set as synthetic."""

MARKER = "synthetic.json"
"""File in the root of a complete synthetic data set, written last. It contains the parameters, the
namespace, the number of records and the ids of defective records."""

UNFINISHED_MARKER = "synthetic.unfinished.json"
"""File in the root of an incomplete synthetic data set."""
