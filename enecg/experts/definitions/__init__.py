"""The definitions of the built-in experts, one module each, without torch."""
