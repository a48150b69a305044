"""Fine-tuning as a researcher meets it: the recipe, the data set, how far a run is. None of it needs a cluster."""
