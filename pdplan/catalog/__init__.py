"""What the catalogs say: accelerators, models, and how to find one by any of its names."""
