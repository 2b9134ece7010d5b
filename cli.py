"""`python cli.py …` in a checkout: the `autosample-tf` command."""

from autosample_tf.cli import main

if __name__ == "__main__":
    main()
