"""What ``python -m scrapper`` can do: a module each command."""
