"""What the service is measured against, each in a few lines."""
