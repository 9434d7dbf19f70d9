"""`python -m blixt` is the `blixt` command."""

from blixt.cli.main import main

if __name__ == "__main__":
    main()
