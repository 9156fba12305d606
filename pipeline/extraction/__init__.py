"""Stage one: every frozen expert once over the records that the stores lack."""
