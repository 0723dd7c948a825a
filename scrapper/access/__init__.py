"""Who may use the service: keys, and the sessions of pages that stand for them."""
