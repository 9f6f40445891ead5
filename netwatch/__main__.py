"""So that `python -m netwatch` is the same program as `netwatch`."""

from netwatch.cli import main

if __name__ == "__main__":
    main()
