"""From FaceForensics++ to Celeb-DF: `python -m avdetect.recipes.celebdf_crosstest`.

Needs data.root=/path/to/ffpp and data.cross.celeb_df=/path/to/celeb_df. Trained on FaceForensics++ c23,
tested on Celeb-DF with the finished detectors. See recipes/celebdf/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("celebdf_crosstest")

if __name__ == "__main__":
    main()
