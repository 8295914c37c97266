"""Entry points and configs."""
