"""Spoofed speech: `python -m avdetect.recipes.asvspoof_la data.root=/path/to/LA [OVERRIDES]`.

EER and min t-DCF, pooled and per attack, on the official splits. See recipes/asvspoof/README.md.
"""

from avdetect.recipes.configure import recipe

main = recipe("asvspoof_la")

if __name__ == "__main__":
    main()
