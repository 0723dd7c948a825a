"""The commands of ``python -m scrapper``, a module each."""
