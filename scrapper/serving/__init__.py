"""How requests reach the handlers, and how responses leave."""
