"""Takes a Google Cloud project to a running flowhook and away from it: plan, state, diff, apply."""
