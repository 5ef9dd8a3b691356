"""`python -m tinyfcn.weights`: the command itself lies among the others.

Nothing else in this folder imports from above it.
"""
import sys

from tinyfcn.weight_files import main

if __name__ == "__main__":
    sys.exit(main())
