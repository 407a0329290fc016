"""The demo: a model's story played on the real stack, measured and summed up."""
