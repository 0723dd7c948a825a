"""The peers that the service is compared with, each in a few lines."""
