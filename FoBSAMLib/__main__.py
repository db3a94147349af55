"""``python -m FoBSAMLib``: the same as ``fobsam``."""

from FoBSAMLib.cli import main

if __name__ == "__main__":
    main()
