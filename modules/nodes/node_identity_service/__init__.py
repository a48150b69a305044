"""The service on the control plane that gives a node that boots its identity. It runs in a pod, without Pulumi."""
