"""What several replicas of the service share, over Redis; imported only where it is set."""
