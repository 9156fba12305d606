"""Names shared with packages that do not import torch."""

LEADS_SAMPLE = "leads"
"""Expert name of `enecg.leads.LeadsSample`, the gate's input, in the stores."""
