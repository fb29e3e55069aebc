"""Sample groups of responses from the policy."""
