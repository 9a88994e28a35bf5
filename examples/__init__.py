"""Runnable examples; `flowcore serve examples.hello:app` serves one from the top of the tree."""
