"""Decides who may use the service, by API key, browser session, or sign-in by a proxy."""
