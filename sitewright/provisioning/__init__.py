"""Clients of what a site manages its nodes with: OpenCHAMI and the BMCs."""
