"""Who may use the service: API keys, browser sessions, and sign-in by a proxy."""
