"""What the commands do, as functions: they return values and raise EdgekitError, and neither print nor exit."""
