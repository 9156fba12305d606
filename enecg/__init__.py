"""The model of EnECG: signal, experts, heads, gate, tasks and metrics (arXiv 2511.22935)."""
