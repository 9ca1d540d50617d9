"""``python -m rapo.cli``."""

from rapo.cli import main

if __name__ == "__main__":
    main()
