"""The commands of ``python -m scrapper``, one module for each."""
