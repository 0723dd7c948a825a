"""The service beside what a user would pick instead, and beside the limit, in one run."""
