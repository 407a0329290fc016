"""Data: rows, labels and when each was known; as files, as windows of days, as tensors."""
