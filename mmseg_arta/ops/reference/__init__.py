"""Plain PyTorch implementations: slow, obvious, float64-capable. They define the ops."""
