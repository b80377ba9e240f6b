"""Quality: how well a context holds what is needed, observed and scored without a model."""
