"""Pseudo-fakes: what forgers leave behind, made on the fly of genuine crops and sound."""
