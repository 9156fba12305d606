"""The parts of an extraction: request, plan, leases, shard ranges, run records."""
