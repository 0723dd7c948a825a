"""What several replicas of the service share, over Redis; imported only if ``REDIS_URL`` is set."""
