"""Stage one in parts: request, plan, leases, shard ranges, run records."""
