"""The visual encoder alone: `python -m avdetect.recipes.dfdc_visual [data.root=/path/to/dfdc] [OVERRIDES]`.

The road of `dfdc_fusion` with one modality; the encoder's logit is the fused one. See recipes/dfdc/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("dfdc_visual")

if __name__ == "__main__":
    main()
