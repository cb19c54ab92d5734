"""ISPL's networks and their ensemble: `python -m avdetect.recipes.dfdc_ispl data.root=/path/to/dfdc [OVERRIDES]`.

EfficientNetB4, its Siamese (ST) and attention (AutoAtt) versions and Xception after Bonettini et al. (ICPR 2020),
and the mean of their logits, with calibration curves. See recipes/dfdc/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("dfdc_ispl")

if __name__ == "__main__":
    main()
