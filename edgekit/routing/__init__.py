"""The routing-token decoder: the text the phone apps port. numpy and tokenizers, nothing heavier."""
