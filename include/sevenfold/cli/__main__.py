"""`python -m sevenfold.cli`."""

from sevenfold.cli.main import app

if __name__ == "__main__":
    app()
