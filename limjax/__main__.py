"""`python -m limjax`."""

from limjax.cli import main

if __name__ == "__main__":
    main()
