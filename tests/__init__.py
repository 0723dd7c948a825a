"""The tests, and the stand-in for Instagram that they and ``make demo`` run against."""
