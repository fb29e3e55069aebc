"""The hybrid runtime as an OpenAI-compatible server, with a page to try it."""
