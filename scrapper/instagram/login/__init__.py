"""The Instagram session: reading cookies, storing them, and checking that it is alive."""
