"""``python -m edgekit``."""

from edgekit.cli.app import main

if __name__ == "__main__":
    main()
