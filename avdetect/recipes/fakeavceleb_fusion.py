"""Audio-visual fakes: `python -m avdetect.recipes.fakeavceleb_fusion data.root=/path/to/FakeAVCeleb_v1.2`.

The three encoders and their fusion, each judged on its modality's own labels. See recipes/fakeavceleb/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("fakeavceleb_fusion")

if __name__ == "__main__":
    main()
