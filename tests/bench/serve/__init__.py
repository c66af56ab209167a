"""A serving benchmark: this service, what a user would otherwise write, and the bare floor."""
