"""Safely reads files that the operator provides, and notices when they change."""
