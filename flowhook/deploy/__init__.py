"""Deploys flowhook to a Google Cloud project, operates it there, and deletes it.

A deployment compares what should exist (`plan`) with what exists (`state`), and carries out the difference
(`diff`).
"""
