"""The tests, and the stand-in for Instagram that they and the demonstration run against."""
