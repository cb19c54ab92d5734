"""Networks that compare lips with sound."""
