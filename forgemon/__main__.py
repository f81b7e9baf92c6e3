"""`python -m forgemon`."""

from forgemon.cli import main

if __name__ == "__main__":
    main()
