"""edgekit's decisions where people already run models: transformers' ``generate()``, optimum."""
