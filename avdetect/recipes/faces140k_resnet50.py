"""ResNet-50 against over-fitting: `python -m avdetect.recipes.faces140k_resnet50 data.root=/path/to/140k`.

Plain, regularised and adversarially trained, beside attention, VGG-16 and Xception. See recipes/faces140k/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("faces140k_resnet50")

if __name__ == "__main__":
    main()
