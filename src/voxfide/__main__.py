"""``python -m voxfide``."""

from voxfide.cli import main

if __name__ == "__main__":
    main()
