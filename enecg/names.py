"""Names shared with packages that do not import torch."""

LEADS_SAMPLE = "leads"
"""Expert name of `enecg.leads.LeadsSample`, under which stores hold the gate's input."""
