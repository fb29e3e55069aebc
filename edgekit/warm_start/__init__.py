"""What training starts from: a policy that already knows the answer's format and gives the marker now and then."""
