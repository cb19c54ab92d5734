"""When is it fake: `python -m avdetect.recipes.lavdf_localisation data.root=/path/to/LAV-DF [OVERRIDES]`.

The fake periods are found from the encoders' scores over time. See recipes/lavdf/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("lavdf_localisation")

if __name__ == "__main__":
    main()
