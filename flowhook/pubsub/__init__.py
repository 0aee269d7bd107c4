"""Everything about Pub/Sub: what is published and how, what is pushed, and who may push it."""
