"""Parts of a lab's Prefect server: set-up, automations, bucket and results pages."""
