"""`python -m pdplan`."""

from pdplan.cli.app import main

if __name__ == "__main__":
    main()
