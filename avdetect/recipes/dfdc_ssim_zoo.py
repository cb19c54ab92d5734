"""Single frames or frames and their SSIM: `python -m avdetect.recipes.dfdc_ssim_zoo data.root=/path/to/dfdc`.

Six networks, and each of them joined with the structural similarity of consecutive frames, trained with focal
loss; frame scores are averaged per video. See recipes/dfdc/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("dfdc_ssim_zoo")

if __name__ == "__main__":
    main()
