"""A simulator of Core ML: reads a saved .mlpackage and executes its ML Program in numpy."""
