"""Names of the audio encoders. No network is imported here."""

from avdetect.encoders.entry import Entry

_MEL_CNN = "the package's own, after the spectrogram CNNs of the ASVspoof 2019 and DFDC challenges"

ENTRIES: dict[str, Entry] = {
    "mel_cnn": Entry("audio", "audio.mel_cnn:MelCNN", _MEL_CNN, "none"),
    "mel_cnn_tiny": Entry(
        "audio",
        "audio.mel_cnn:MelCNN",
        _MEL_CNN,
        "fewer channels and a shorter hop: trains on a CPU in a minute",
        {"channels": (16, 32, 48, 64), "dense": 128, "n_mels": 64, "hop_length": 128},
    ),
    # -- AASIST, RawNet2
    # -- LFCC-LCNN
}
