"""What is built on the operator's machine and published: container images, environments and models."""
