"""The life of diskless nodes: drained, moved to another image, given to another owner, replaced."""
