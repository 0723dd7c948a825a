"""Benchmarks, which compare the service with alternatives and with the minimum of work."""
