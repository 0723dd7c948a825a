"""State that replicas of the service share in Redis; imported only if ``REDIS_URL`` is set."""
