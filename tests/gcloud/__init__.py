"""A fake of Google's control plane, strict enough to test a deployment with the real gcloud against it."""
