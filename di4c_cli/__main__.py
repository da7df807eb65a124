"""`python -m di4c_cli`, and the `di4c` program."""

from di4c_cli.cli.app import main

if __name__ == "__main__":
    main()
