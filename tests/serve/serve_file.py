"""What `blixt serve FILE --port 0` does."""

import sys

from blixt.serve import run_file

if __name__ == "__main__":
    run_file(sys.argv[1], port=0, accelerator="cpu")
