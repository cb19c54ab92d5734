"""UCF on FaceForensics++: `python -m avdetect.recipes.ffpp_ucf data.root=/path/to/ffpp [data.cross={NAME: /path}]`.

Trained on c23, tested across datasets, with t-SNE and Grad-CAM. See recipes/faceforensics/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("ffpp_ucf")

if __name__ == "__main__":
    main()
