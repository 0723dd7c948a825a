"""Reads and stores the cookies of an Instagram session, and checks that the session is alive."""
