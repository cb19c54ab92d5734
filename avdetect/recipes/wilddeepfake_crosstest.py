"""From FaceForensics++ to WildDeepfake: `python -m avdetect.recipes.wilddeepfake_crosstest`.

Needs data.root=/path/to/ffpp and data.cross.wilddeepfake=/path/to/wilddeepfake. Trained on FaceForensics++
c23, tested on WildDeepfake with the finished detectors. See recipes/wilddeepfake/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("wilddeepfake_crosstest")

if __name__ == "__main__":
    main()
