"""Does the detector err alike on everybody: `python -m avdetect.recipes.aiface_fairness data.root=/path/to/AI-Face`.

AI-Face's fairness metrics and the rates of every group. See recipes/aiface/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("aiface_fairness")

if __name__ == "__main__":
    main()
