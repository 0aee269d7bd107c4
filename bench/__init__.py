"""Measurements that settle a question; each is a module to run."""
