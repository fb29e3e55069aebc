"""The routing-token decoder: numpy and the standard library only, the text the phone apps port."""
