"""Networks that listen to waveforms."""
