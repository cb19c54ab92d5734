"""CNNs on still faces: `python -m avdetect.recipes.faces140k_cnn "data.root=[/path/to/140k,/path/to/ciplab]"`.

A CNN of our own, DenseNet-121, VGGFace-16 and a hybrid with CLAHE, compared. See recipes/faces140k/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("faces140k_cnn")

if __name__ == "__main__":
    main()
