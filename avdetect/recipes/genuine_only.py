"""Learning from genuine footage: `python -m avdetect.recipes.genuine_only data.root=/path/to/manifest.csv`.

Fakes are made on the fly from what is genuine; labelled fakes are used where the data holds some.
See recipes/genuine_only/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("genuine_only")

if __name__ == "__main__":
    main()
