"""Reading rows: scattered, many stores in step, and in shuffled batches."""
