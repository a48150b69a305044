"""OpenCHAMI as resources: groups, configurations, nodes, and what they boot."""
