"""Google's control plane for one project, as strict as Google's and as slow as a test tells it to be."""
