"""Names of the audio encoders. No network is imported here."""

from avdetect.encoders.entry import Entry

_MEL_CNN = "the package's own, after the spectrogram CNNs of the ASVspoof 2019 and DFDC challenges"

_AASIST = (
    "Jung, Heo, Tak, Shim, Chung, Lee, Yu and Evans, AASIST: Audio Anti-Spoofing using Integrated "
    "Spectro-Temporal Graph Attention Networks, ICASSP 2022"
)
_AASIST_CHANGES = "none to the published code, whose first norm of a block has no effect; it is kept, frozen"

ENTRIES: dict[str, Entry] = {
    "mel_cnn": Entry("audio", "audio.mel_cnn:MelCNN", _MEL_CNN, "none"),
    "mel_cnn_tiny": Entry(
        "audio",
        "audio.mel_cnn:MelCNN",
        _MEL_CNN,
        "fewer channels and a shorter hop: trains on a CPU in a minute",
        {"channels": (16, 32, 48, 64), "dense": 128, "n_mels": 64, "hop_length": 128},
    ),
    "spectrum_cnn": Entry(
        "audio",
        "audio.spectrum_cnn:SpectrumCNN",
        "the package's own, after the spectrogram CNNs of the ASVspoof challenges",
        "none",
    ),
    # -- AASIST, RawNet2
    "aasist": Entry("audio", "audio.aasist:AASIST", _AASIST, _AASIST_CHANGES),
    "aasist_l": Entry(
        "audio",
        "audio.aasist:AASIST",
        _AASIST,
        _AASIST_CHANGES,
        {"channels": (32, 24), "graph": (24, 32), "keep": (0.4, 0.5, 0.7)},
    ),
    "rawnet2": Entry(
        "audio",
        "audio.rawnet2:RawNet2",
        "Tak, Patino, Todisco, Nautsch, Evans and Larcher, End-to-end anti-spoofing with RawNet2, ICASSP 2021",
        "the sizes of the AASIST authors' baseline (20 filters with 1025 samples, 1024 GRU units), for which a "
        "layout of checkpoints is published; the first norm of a block has no effect in the published code and is "
        "kept, frozen",
    ),
    # -- LFCC-LCNN
    "lfcc_lcnn": Entry(
        "audio",
        "audio.lfcc_lcnn:LfccLcnn",
        "Lavrentyeva, Novoselov, Tseren, Volkova, Gorlanov and Kozlov, STC Antispoofing Systems for the "
        "ASVspoof2019 Challenge, Interspeech 2019; Wang and Yamagishi, A Comparative Study on Recent Neural "
        "Spoofing Countermeasures for Synthetic Speech Detection, Interspeech 2021",
        "the form of the ASVspoof 2021 baseline (two bidirectional LSTMs, mean over time) with a Hann window; one "
        "logit instead of two outputs; the waveform is brought to a level of 1, so that loudness tells nothing",
    ),
}
