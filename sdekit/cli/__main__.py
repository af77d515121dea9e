"""``python -m sdekit.cli``."""

from sdekit.cli.main import main

if __name__ == "__main__":
    main()
