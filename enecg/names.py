"""Names shared with packages that do not import torch."""

LEADS_SAMPLE = "leads"
"""Name under which `enecg.leads.LeadsSample`, the gate's input, is stored like an expert."""
