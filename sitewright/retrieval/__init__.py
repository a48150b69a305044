"""Retrieval as a team meets it: documents, versions of a collection, and what it is worth against other models."""
