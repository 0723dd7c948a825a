"""Tests of each middleware alone, in an application that knows nothing of the service."""
