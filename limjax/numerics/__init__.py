"""Numerical ground floor: imports nothing of limjax."""
