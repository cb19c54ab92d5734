"""The main recipe: `python -m avdetect.recipes.dfdc_fusion [data.root=/path/to/dfdc] [OVERRIDES]`.

index -> prepare -> visual -> audio -> lipsync -> fusion -> calibrate -> test (with the bundle).
Without data it makes and uses the embedded demo set. See recipes/dfdc/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("dfdc_fusion")

if __name__ == "__main__":
    main()
