"""Every method compared under the same budget of cloud calls."""
