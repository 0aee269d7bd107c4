"""Handlers for the tests of flowhook, which never run those of the project."""
