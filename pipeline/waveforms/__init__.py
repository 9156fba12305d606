"""From files to the ECG: records decoded to one shape, and what is wrong with them."""
