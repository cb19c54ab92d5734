"""Networks that look at face crops."""
