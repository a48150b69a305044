"""Rules for manifests that serve models with vLLM: what will fail on a site, and why."""
