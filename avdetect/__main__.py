"""`python -m avdetect …` is `avdetect …`: a bare checkout has no console script."""

from avdetect.cli import main

if __name__ == "__main__":
    main()
